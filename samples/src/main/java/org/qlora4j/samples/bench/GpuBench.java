package org.qlora4j.samples.bench;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;

/**
 * Times {@link GpuKernel}s: as many calls one behind the other as take a while, waited for once; of three such rounds
 * the fastest. Launching is part of the time where the GPU is faster than the host.
 */
public final class GpuBench {
    private static final double ROUND_SECONDS = 0.2;
    /** On a simulated GPU, whose times mean nothing. */
    private static final double TINY_SECONDS = 0.005;

    private static final int MOST_CALLS = 2000;
    private static final int ROUNDS = 3;

    private final GpuCard card;
    private final ModelShape shape;
    private final List<Result> results = new ArrayList<>();

    /**
     * @param seconds of one call
     * @param floor the least the card can take, NaN if it is not known
     */
    private record Result(GpuKernel kernel, int calls, double seconds, double floor) {}

    private GpuBench(GpuCard card, ModelShape shape) {
        this.card = card;
        this.shape = shape;
    }

    /**
     * Times the kernels whose name contains a text.
     *
     * @param device a GPU
     * @param ordinal its number
     * @param pattern empty for all
     * @throws IllegalArgumentException if no name contains it
     * @throws ArithmeticException if a kernel's result is not finite
     */
    public static GpuBench run(Device device, int ordinal, ModelShape shape, String pattern) {
        List<GpuKernel> kernels = GpuKernel.all(shape);
        List<GpuKernel> chosen = kernels.stream()
                .filter(k -> k.name().contains(pattern.toLowerCase(Locale.ROOT)))
                .toList();
        if (chosen.isEmpty()) {
            throw new IllegalArgumentException("no kernel's name contains '" + pattern + "'; there are "
                    + kernels.stream().map(GpuKernel::name).toList());
        }
        GpuBench bench = new GpuBench(GpuCard.of(ordinal), shape);
        for (GpuKernel kernel : chosen) {
            bench.time(device, kernel);
        }
        return bench;
    }

    private void time(Device device, GpuKernel kernel) {
        try (Scope scope = device.newScope();
                GpuTensors tensors = new GpuTensors(device, scope)) {
            GpuKernel.Work work = kernel.setup().of(tensors);
            // the first call compiles, allocates and pages in
            seconds(device, work, 1);
            double once = seconds(device, work, 1);
            double round = shape == ModelShape.TINY ? TINY_SECONDS : ROUND_SECONDS;
            int calls = (int) Math.clamp(round / once, 1, MOST_CALLS);
            double best = once;
            for (int i = 0; calls > 1 && i < ROUNDS; i++) {
                best = Math.min(best, seconds(device, work, calls) / calls);
            }
            double sum = device.ops().sumOfSquares(work.result());
            if (!Double.isFinite(sum)) {
                throw new ArithmeticException(kernel.what() + ": the result has a sum of squares of " + sum);
            }
            results.add(new Result(kernel, calls, best, card.seconds(kernel.flops(), kernel.bytes())));
        }
    }

    /** Of some calls and the wait for the last one, by a copy of one element. */
    private static double seconds(Device device, GpuKernel.Work work, int calls) {
        float[] one = new float[1];
        var last = work.result().rows(0, 1).cols(0, 1);
        device.download(last, one, 0);
        long start = System.nanoTime();
        for (int i = 0; i < calls; i++) {
            work.call().run();
        }
        device.download(last, one, 0);
        return (System.nanoTime() - start) / 1e9;
    }

    /** For people. */
    public String table() {
        List<String> lines = new ArrayList<>();
        lines.add(card.toString());
        lines.add("| kernel | | µs | TFLOP/s | GB/s | floor µs | of the floor's speed |");
        lines.add("|---|---|---|---|---|---|---|");
        for (Result r : results) {
            lines.add(String.format(
                    Locale.ROOT,
                    "| %s | %s | %.1f | %.1f | %.0f | %s | %s |",
                    r.kernel.name(),
                    r.kernel.what(),
                    r.seconds * 1e6,
                    r.kernel.flops() / r.seconds / 1e12,
                    r.kernel.bytes() / r.seconds / 1e9,
                    known(r.floor, "%.1f", r.floor * 1e6),
                    known(r.floor, "%.0f %%", 100 * r.floor / r.seconds)));
        }
        return String.join(System.lineSeparator(), lines);
    }

    private static String known(double floor, String format, double value) {
        return Double.isNaN(floor) ? "not known" : String.format(Locale.ROOT, format, value);
    }

    /** For programs: the card, and each kernel in seconds. */
    public ObjectNode json() {
        ObjectNode json = JsonNodeFactory.instance.objectNode().put("size", shape.name());
        json.set("card", card.json());
        ArrayNode kernels = json.putArray("kernels");
        for (Result r : results) {
            ObjectNode k = kernels.addObject();
            k.put("name", r.kernel.name()).put("what", r.kernel.what());
            k.put("flops", r.kernel.flops()).put("bytes", r.kernel.bytes());
            k.put("calls", r.calls).put("seconds", r.seconds);
            if (!Double.isNaN(r.floor)) {
                k.put("floor_seconds", r.floor).put("share_of_floor", r.floor / r.seconds);
            }
        }
        return json;
    }
}
