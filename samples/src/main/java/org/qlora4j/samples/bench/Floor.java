package org.qlora4j.samples.bench;

import java.util.Locale;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * What this machine can do at best.
 *
 * @param gflops multiplications and additions in fp32, in 10⁹ a second: oneDNN's product of two 2048² matrices
 * @param gigabytes memory traffic in 10⁹ bytes a second: reads and writes of a copy of 256 MB; data in the caches can
 *     be faster
 */
public record Floor(double gflops, double gigabytes) {
    private static final int SIDE = 2048;
    private static final int COPIED = 32 << 20;

    /** Measures it, in a second or two. */
    public static Floor measure(int threads) {
        try (Device device = Devices.open("cpu", threads);
                Scope scope = device.newScope()) {
            Tensor a = filled(device, scope, SIDE, SIDE);
            Tensor b = filled(device, scope, SIDE, SIDE);
            Tensor c = filled(device, scope, SIDE, SIDE);
            double product = best(() -> device.ops().matmul(c, a, false, b, true, 1, 0));
            Tensor from = filled(device, scope, 1, COPIED);
            Tensor to = filled(device, scope, 1, COPIED);
            double copy = best(() -> device.ops().copy(to, from));
            return new Floor(2.0 * SIDE * SIDE * SIDE / product / 1e9, 8.0 * COPIED / copy / 1e9);
        }
    }

    private static Tensor filled(Device device, Scope scope, int rows, int cols) {
        Tensor t = scope.newTensor(rows, cols);
        device.ops().fill(t, 1);
        return t;
    }

    /** Seconds of the fastest of a few calls. */
    private static double best(Runnable work) {
        double best = Double.MAX_VALUE;
        for (int i = 0; i < 8; i++) {
            long start = System.nanoTime();
            work.run();
            best = Math.min(best, (System.nanoTime() - start) / 1e9);
        }
        return best;
    }

    /** The longer of what the arithmetic and the memory traffic take, in microseconds. */
    double micros(double flops, double bytes) {
        return Math.max(flops / gflops, bytes / gigabytes) / 1e3;
    }

    @Override
    public String toString() {
        return String.format(
                Locale.ROOT, "this machine: %.0f GFLOP/s in fp32, %.0f GB/s of memory traffic", gflops, gigabytes);
    }
}
