package org.qlora4j.samples;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Set;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.samples.bench.GpuBench;
import org.qlora4j.samples.bench.KernelBenchmark;
import org.qlora4j.samples.bench.ModelBench;
import org.qlora4j.samples.bench.ModelShape;
import org.qlora4j.samples.bench.ProfiledDevice;

/** {@code qlora bench}: how fast kernels are, or how fast a whole model trains and answers here. */
final class Bench {
    private Bench() {}

    static int run(Arguments a) {
        String workload = a.text("workload");
        if (workload.equals("kernels")) {
            return kernels(a);
        }
        boolean checkpointing = a.bool("gradient_checkpointing");
        int steps = a.integer("steps");
        int sequence = a.integer("sequence");
        if (!Set.of("train", "instructions", "generate").contains(workload)) {
            throw new UserException(
                    "workload must be kernels, train, instructions or generate, got '" + workload + "'");
        }
        if (steps < 1 || sequence < 2) {
            throw new UserException(
                    "steps must be at least 1 and sequence at least 2, got " + steps + " and " + sequence);
        }
        int batchSize = Answering.batchSize(a);
        long start = System.nanoTime();
        AtomicReference<@Nullable ProfiledDevice> profiled = new AtomicReference<>();
        try (Session session = Session.open(a, 0, device -> {
            if (!a.bool("profile")) {
                return device;
            }
            ProfiledDevice p = new ProfiledDevice(device);
            profiled.set(p);
            return p.device();
        })) {
            double loaded = (System.nanoTime() - start) / 1e9;
            ProfiledDevice profile = profiled.get();
            ModelBench bench = new ModelBench(session.model(), profile == null ? () -> {} : profile::reset);
            ObjectNode line = switch (workload) {
                case "instructions" -> bench.instructions(a.integer("rows"), sequence, checkpointing, steps);
                case "generate" -> bench.generate(a.integer("max_new_tokens"), batchSize, steps);
                default -> bench.train(sequence, checkpointing, steps);
            };
            if (profile != null) {
                System.out.println(profile.table());
            }
            System.out.println(line.put("workload", workload).put("load_s", loaded));
        }
        return 0;
    }

    /** On a GPU those of training and answering there, else the CPU's. */
    private static int kernels(Arguments a) {
        Session.nameNatives(a);
        String name = Devices.choose(a.text("device")).device();
        if (!Devices.isCuda(name)) {
            Session.useNatives(a);
            System.out.println(KernelBenchmark.run(a.text("kernel"), threads(a)));
            return 0;
        }
        ModelShape shape = ModelShape.of(a.text("size"));
        try (Device device = Devices.open(name, 0)) {
            System.out.println(device.description());
            GpuBench bench = GpuBench.run(device, Devices.ordinal(name), shape, a.text("kernel"));
            System.out.println(a.bool("json") ? bench.json() : bench.table());
        }
        return 0;
    }

    private static int threads(Arguments a) {
        int threads = a.integer("threads");
        return threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
    }
}
