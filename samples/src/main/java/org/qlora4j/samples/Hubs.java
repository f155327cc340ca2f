package org.qlora4j.samples;

import java.util.Locale;
import org.qlora4j.lora.hub.Hub;
import org.qlora4j.lora.hub.HubClient;
import org.qlora4j.lora.hub.HubProgress;
import org.qlora4j.lora.hub.HubSettings;

/** The hub that {@code --use_hf} chooses, with a progress bar. */
final class Hubs {
    private Hubs() {}

    static HubClient of(Arguments a) {
        boolean huggingFace = a.has("use_hf") ? a.bool("use_hf") : "1".equals(System.getenv("USE_HF"));
        return new HubClient(HubSettings.ofProcess(), huggingFace ? Hub.HUGGING_FACE : Hub.MODELSCOPE, new Terminal());
    }

    private static final class Terminal implements HubProgress {
        private long started;

        @Override
        public void say(String line) {
            Progress.end();
            System.out.println(line);
            started = System.nanoTime();
        }

        @Override
        public void bytes(String what, long done, long all) {
            double seconds = (System.nanoTime() - started) / 1e9;
            Progress.line(String.format(
                    Locale.ROOT,
                    "%s %.1f/%.1f MB  %.1f MB/s",
                    what,
                    done / 1e6,
                    all / 1e6,
                    done / 1e6 / Math.max(seconds, 1e-3)));
            if (done == all) {
                Progress.end();
            }
        }
    }
}
