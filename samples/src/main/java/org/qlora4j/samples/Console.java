package org.qlora4j.samples;

import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.file.Path;
import java.util.Locale;
import java.util.stream.Collectors;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.optim.train.LogEntry;
import org.qlora4j.optim.train.TrainingListener;
import org.qlora4j.samples.bench.ProcessTimes;

/** Training on the terminal: a progress bar, and a line for each log entry and checkpoint. */
final class Console implements TrainingListener {
    private final Device device;

    Console(Device device) {
        this.device = device;
    }

    @Override
    public void starts() {
        ProcessTimes times = ProcessTimes.now();
        System.out.printf(
                Locale.ROOT,
                "the first step begins %.2f s after the start, %.2f s of CPU time%n",
                times.seconds(),
                times.cpuSeconds());
    }

    @Override
    public void step(int step, int totalSteps, double loss, double tokensPerSecond, double secondsLeft) {
        int filled = (int) (20L * step / totalSteps);
        Progress.line(String.format(
                Locale.ROOT,
                "[%s%s] %d/%d  loss %.4f  %.0f tokens/s  %.2f GB  %s left",
                "=".repeat(filled),
                " ".repeat(20 - filled),
                step,
                totalSteps,
                loss,
                tokensPerSecond,
                device.bytesHeld() / 1e9,
                Progress.time(secondsLeft)));
    }

    @Override
    public void logged(LogEntry entry) {
        Progress.line("");
        System.out.print("\r");
        System.out.println(entry.values().entrySet().stream()
                .map(e -> e.getKey() + "=" + shortened(e.getValue()))
                .collect(Collectors.joining(", ", "{", "}")));
    }

    /** Six digits tell a person enough; logging.jsonl has all of them. */
    private static String shortened(Object value) {
        return value instanceof Double d && Double.isFinite(d)
                ? new BigDecimal(d)
                        .round(new MathContext(6))
                        .stripTrailingZeros()
                        .toString()
                : String.valueOf(value);
    }

    @Override
    public void skipped(String why) {
        Progress.line("");
        System.out.println("\rwarning: " + why);
    }

    @Override
    public void saved(Path checkpoint) {
        System.out.println("saved " + checkpoint);
    }
}
