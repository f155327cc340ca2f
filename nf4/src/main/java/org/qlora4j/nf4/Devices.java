package org.qlora4j.nf4;

import com.google.errorprone.annotations.MustBeClosed;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.DryDevice;
import org.qlora4j.nf4.device.cpu.CpuDevice;
import org.qlora4j.nf4.device.cpu.CpuScratch;
import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;

/** Opens devices by name. */
public final class Devices {
    private Devices() {}

    /**
     * Opens a device.
     *
     * @param name {@code auto} (the CPU), {@code cpu}, or {@code reference}: plain loops in double, for checks
     * @param threads of the CPU device; 0 for as many as there are processors
     * @throws IllegalArgumentException if there is no such device; it never falls back to another one
     */
    @MustBeClosed
    public static Device open(String name, int threads) {
        return open(name, threads, DType.F32);
    }

    /**
     * As {@link #open(String, int)}.
     *
     * @param computeType what the operands of products with frozen weights are rounded to; a CPU without bf16
     *     instructions computes BF16 in fp32, and its description says so
     */
    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker")
    public static Device open(String name, int threads, DType computeType) {
        return switch (name) {
            case "auto", "cpu" -> new CpuDevice(threads(threads), cpuComputeType(computeType));
            case "reference" -> new ReferenceDevice();
            default ->
                throw new IllegalArgumentException(
                        "device '" + name + "' is not supported; supported: auto, cpu, reference");
        };
    }

    /**
     * The CPU without its memory and arithmetic: what runs on it computes nothing, and its memory is counted.
     *
     * @param threads as in {@link #open(String, int, DType)}; each has buffers of its own
     * @param computeType likewise
     */
    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker")
    public static DryDevice dryCpu(int threads, DType computeType) {
        boolean bf16 = cpuComputeType(computeType) == DType.BF16;
        return new DryDevice("dry-cpu", DType.F32, new CpuScratch(threads(threads), bf16));
    }

    private static DType cpuComputeType(DType asked) {
        return asked == DType.BF16 && CpuDevice.hasBf16() ? DType.BF16 : DType.F32;
    }

    private static int threads(int threads) {
        return threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
    }
}
