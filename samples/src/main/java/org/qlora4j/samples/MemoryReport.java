package org.qlora4j.samples;

import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.qlora4j.bindings.Mpi;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.optim.OptimizerConfig;
import org.qlora4j.optim.OptimizerNames;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.memory.MemorySettings;

/** Shows an estimate, refuses what cannot fit, and compares with what was measured. */
final class MemoryReport {
    private static final Pattern SIZE =
            Pattern.compile("(\\d+(?:\\.\\d+)?)\\s*([KMGT]?)(i?)B?", Pattern.CASE_INSENSITIVE);

    private static final OptimizerConfig ADAMW_8BIT =
            OptimizerNames.config("adamw_8bit", new OptimizerNames.Constants(0.9, 0.95, 1e-8, 0), "");

    private MemoryReport() {}

    static void print(MemoryEstimate estimate, PrintStream out) {
        for (MemoryEstimate.Item item : estimate.items()) {
            out.printf(Locale.ROOT, "  %-22s %9.1f MB  %s%n", item.name(), item.bytes() / 1e6, item.explanation());
        }
        out.printf(
                Locale.ROOT,
                "  %-22s %9.1f MB  (%.2f GB; base %.2f GB, on the device %.2f GB)%n",
                "total",
                estimate.totalBytes() / 1e6,
                estimate.totalBytes() / 1e9,
                estimate.baseBytes() / 1e9,
                estimate.deviceBytes() / 1e9);
    }

    /**
     * How much memory a run may take.
     *
     * @param option the value of {@code --max_memory}; empty if the system was asked
     */
    record Room(long bytes, String option) {
        boolean fits(MemoryEstimate estimate) {
            return estimate.totalBytes() <= bytes;
        }

        @Override
        public String toString() {
            return String.format(
                    Locale.ROOT,
                    "%.0f MB%s",
                    bytes / 1e6,
                    option.isEmpty() ? available(Mpi.ranksOfThisMachine()) : " (--max_memory " + option + ")");
        }
    }

    /**
     * Asks the system, if the option does not say it.
     *
     * @param maxMemory the option: how much may be used; empty for what the system has available
     * @param held what of it is held already, and no longer available
     */
    static Room room(MemorySettings settings, String maxMemory, long held) {
        return new Room(maxMemory.isEmpty() ? available(settings.device(), held) : bytes(maxMemory), maxMemory);
    }

    /**
     * Refuses a run that does not fit.
     *
     * @param maxMemory as in {@link #room}
     * @param held as there
     * @throws UserException with the options that would help, and by how much
     */
    static void requireRoom(MemorySettings settings, MemoryEstimate estimate, String maxMemory, long held) {
        Room room = room(settings, maxMemory, held);
        if (room.fits(estimate)) {
            return;
        }
        List<String> lines = new ArrayList<>();
        knobs(settings).stream()
                .sorted(Comparator.comparingLong(k -> k.estimate.totalBytes()))
                .forEach(k -> {
                    long saved = estimate.totalBytes() - k.estimate.totalBytes();
                    if (saved > estimate.totalBytes() / 200) {
                        lines.add(String.format(
                                Locale.ROOT,
                                "%n  %s: %.0f MB less%s",
                                k.option,
                                saved / 1e6,
                                room.fits(k.estimate) ? ", fits" : ""));
                    }
                });
        throw new UserException(String.format(
                Locale.ROOT,
                "this run needs about %.0f MB, there are %s; what would help:%s%n  --max_memory SIZE: try it all the same",
                estimate.totalBytes() / 1e6,
                room,
                String.join("", lines)));
    }

    private record Knob(String option, MemoryEstimate estimate) {}

    private static List<Knob> knobs(MemorySettings s) {
        List<Knob> knobs = new ArrayList<>();
        int layers = s.model().numLayers();
        if (s.checkpointedLayers() < layers) {
            knobs.add(knob("--gradient_checkpointing true", s.withCheckpointedLayers(layers)));
        }
        if (s.quantization() == null) {
            knobs.add(knob("--quant_method bnb --quant_bits 4", s.withQuantization(Quantization.NF4_DOUBLE)));
        }
        Batch largest =
                s.passes().stream().max(Comparator.comparingInt(Batch::tokens)).orElseThrow();
        if (largest.rows() > 1) {
            int length = largest.tokens() / largest.rows();
            knobs.add(knob(
                    "--per_device_train_batch_size 1", s.withPasses(List.of(MemorySettings.fullBatch(1, length)))));
        }
        int half = Math.max(16, largest.tokens() / largest.rows() / 2);
        knobs.add(knob("--max_length " + half, s.withPasses(List.of(MemorySettings.fullBatch(largest.rows(), half)))));
        if (!s.optimizer().layout().eightBit()) {
            knobs.add(knob("--optim adamw_8bit", s.withOptimizer(ADAMW_8BIT)));
        }
        if (s.lora().loraDropout() > 0) {
            knobs.add(knob("--lora_dropout 0", s.withLora(s.lora().withDropout(0))));
        }
        return knobs;
    }

    private static Knob knob(String option, MemorySettings settings) {
        return new Knob(option, MemoryEstimate.of(settings));
    }

    /** 8GB, 512MiB, 7e9 … */
    static long bytes(String text) {
        Matcher m = SIZE.matcher(text.strip());
        if (!m.matches()) {
            throw new UserException("--max_memory must be a size such as 8GB or 7.5GiB, got '" + text + "'");
        }
        int power = " KMGT"
                .indexOf(
                        m.group(2).isEmpty()
                                ? ' '
                                : Character.toUpperCase(m.group(2).charAt(0)));
        return (long) (Double.parseDouble(m.group(1)) * Math.pow(m.group(3).isEmpty() ? 1000 : 1024, power));
    }

    /**
     * On a GPU what others leave of its memory, CUDA's context of this process included; without its driver a run is
     * planned, not made.
     */
    private static long available(String device, long held) {
        if (!Devices.isCuda(device)) {
            // the ranks of this machine share it
            return available() / Mpi.ranksOfThisMachine() + held;
        }
        try {
            return Devices.freeGpuMemory(device) + MemoryEstimate.CUDA_CONTEXT_BYTES + held;
        } catch (NativeException e) {
            return Long.MAX_VALUE;
        }
    }

    /** What this process may still take of a device's memory. @param maxMemory the option; empty if it is not given */
    static long left(Device device, String maxMemory) {
        boolean gpu = Devices.isCuda(device.name());
        long held = gpu ? device.bytesHeld() + MemoryEstimate.CUDA_CONTEXT_BYTES : peakProcessBytes();
        return maxMemory.isEmpty() ? available(device.name(), 0) : bytes(maxMemory) - held;
    }

    private static String available(int ranks) {
        return ranks == 1 ? " available" : " available to each of the " + ranks + " ranks of this machine";
    }

    /** Memory the system can still give: MemAvailable, and what a container's limit leaves, its file cache aside. */
    static long available() {
        long system = procKiB(Path.of("/proc/meminfo"), "MemAvailable") * 1024;
        Path group = Path.of("/sys/fs/cgroup");
        if (!Files.isRegularFile(group.resolve("memory.max")) || !Files.isRegularFile(group.resolve("memory.stat"))) {
            return system;
        }
        try {
            String limit = Files.readString(group.resolve("memory.max")).strip();
            if (limit.equals("max")) {
                return system;
            }
            long used = Long.parseLong(
                    Files.readString(group.resolve("memory.current")).strip());
            return Math.min(system, Long.parseLong(limit) - used + cache(group.resolve("memory.stat")));
        } catch (IOException e) {
            return system;
        }
    }

    private static long cache(Path stat) throws IOException {
        return Files.readAllLines(stat).stream()
                .filter(line -> line.startsWith("inactive_file "))
                .mapToLong(line -> Long.parseLong(line.substring("inactive_file ".length())))
                .sum();
    }

    /** The most memory this process has held, files it mapped included. */
    static long peakProcessBytes() {
        return procKiB(Path.of("/proc/self/status"), "VmHWM") * 1024;
    }

    private static long procKiB(Path file, String key) {
        try {
            for (String line : Files.readAllLines(file)) {
                if (line.startsWith(key + ":")) {
                    return Long.parseLong(line.replaceAll("\\D", ""));
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + file + ": " + e, e);
        }
        throw new IllegalStateException(file + " says nothing about " + key);
    }

    /** What was measured beside what was estimated. */
    static void compare(MemoryEstimate estimate, Device device, PrintStream out) {
        line(out, "device memory", estimate.deviceBytes(), device.peakBytes());
        if (!Devices.isCuda(device.name())) {
            line(out, "process memory", estimate.totalBytes(), peakProcessBytes());
        }
    }

    private static void line(PrintStream out, String what, long estimated, long measured) {
        out.printf(
                Locale.ROOT,
                "%s: estimated %.1f MB, measured peak %.1f MB (%+.1f %%)%n",
                what,
                estimated / 1e6,
                measured / 1e6,
                100.0 * (estimated - measured) / measured);
    }
}
