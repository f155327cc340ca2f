package org.qlora4j.samples;

import java.util.Locale;
import java.util.function.Consumer;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.memory.MemorySettings;

/**
 * {@code --gradient_checkpointing}: {@code true} runs all layers again in backward, {@code false} none, a number so
 * many, and {@code auto} the fewest with which the run fits.
 *
 * @param settings with the layers that are run again
 * @param estimate of them
 */
record Checkpointing(MemorySettings settings, MemoryEstimate estimate) {
    private static final String OPTION = "gradient_checkpointing";

    /** How many layers the option names; for auto, all. @param all layers of the model */
    static int layers(Arguments a, int all) {
        String value = a.text(OPTION);
        if (Option.isBoolean(value)) {
            return a.bool(OPTION) ? all : 0;
        }
        int count = isAuto(a) ? all : a.integer(OPTION);
        if (count < 0 || count > all) {
            throw new UserException("--gradient_checkpointing must be true, false, auto or 0 to " + all
                    + ", the model's layers, got " + count);
        }
        return count;
    }

    private static boolean isAuto(Arguments a) {
        return a.text(OPTION).equalsIgnoreCase("auto");
    }

    /**
     * What the option says; for auto, the fewest layers with which the run fits, or all if it does not fit in any case,
     * and one line that says so.
     *
     * @param settings with all layers, if auto
     * @param held what of the memory is held already
     * @param out takes the line
     */
    static Checkpointing choose(Arguments a, MemorySettings settings, long held, Consumer<String> out) {
        if (!isAuto(a)) {
            return of(settings, settings.checkpointedLayers());
        }
        int all = settings.model().numLayers();
        MemoryReport.Room room = MemoryReport.room(settings, a.text("max_memory"), held);
        Checkpointing chosen = of(settings, 0);
        if (!chosen.fits(room)) {
            Checkpointing most = of(settings, all);
            chosen = most.fits(room) ? between(0, most, room) : most;
        }
        out.accept(String.format(
                Locale.ROOT,
                "gradient_checkpointing auto: backward runs %s again; that needs %.0f MB, there are %s",
                described(chosen.settings),
                chosen.estimate.totalBytes() / 1e6,
                room));
        return chosen;
    }

    /** The fewest layers that fit. @param tooFew do not fit @param enough fits */
    private static Checkpointing between(int tooFew, Checkpointing enough, MemoryReport.Room room) {
        int low = tooFew;
        Checkpointing best = enough;
        while (best.settings.checkpointedLayers() - low > 1) {
            int middle = (low + best.settings.checkpointedLayers()) / 2;
            Checkpointing next = of(enough.settings, middle);
            if (next.fits(room)) {
                best = next;
            } else {
                low = middle;
            }
        }
        return best;
    }

    /** An estimate may be some percent off: a tenth of what the system has is left to others. */
    private boolean fits(MemoryReport.Room room) {
        return estimate.totalBytes() <= (room.option().isEmpty() ? room.bytes() / 10 * 9 : room.bytes());
    }

    private static Checkpointing of(MemorySettings settings, int layers) {
        MemorySettings s = settings.withCheckpointedLayers(layers);
        return new Checkpointing(s, MemoryEstimate.of(s));
    }

    /** Of a model of 30 layers: none, all 30, or 12 of 30 layers. */
    static String described(MemorySettings settings) {
        int count = settings.checkpointedLayers();
        int all = settings.model().numLayers();
        return count == 0 ? "no layer" : count == all ? "all " + all + " layers" : count + " of " + all + " layers";
    }
}
