package org.qlora4j.nf4;

import com.google.errorprone.annotations.MustBeClosed;
import java.util.List;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.bindings.CudaNatives;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.DryDevice;
import org.qlora4j.nf4.device.Nf4Kernels;
import org.qlora4j.nf4.device.cpu.CpuDevice;
import org.qlora4j.nf4.device.cpu.CpuScratch;
import org.qlora4j.nf4.device.cuda.CudaDevice;
import org.qlora4j.nf4.device.cuda.CudaScratch;
import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;

/** Opens devices by name. */
public final class Devices {
    private Devices() {}

    /**
     * Opens a device.
     *
     * @param name {@code cpu}, {@code cuda:0} and so on, {@code auto} (see {@link #choose}), or {@code reference}:
     *     plain loops in double, for checks
     * @param threads of the CPU device; 0 for as many as there are processors
     * @throws IllegalArgumentException if there is no such device; one that was named never falls back to another
     * @throws NativeException if a library is missing: says which, and what was tried
     */
    @MustBeClosed
    public static Device open(String name, int threads) {
        return open(name, threads, DType.F32);
    }

    /** As {@link #open(String, int, DType, Nf4Kernels)} with {@link Nf4Kernels#AUTO}. */
    @MustBeClosed
    public static Device open(String name, int threads, DType computeType) {
        return open(name, threads, computeType, Nf4Kernels.AUTO);
    }

    /**
     * As {@link #open(String, int)}.
     *
     * @param computeType what the operands of products with frozen weights are rounded to; a CPU that gains nothing by
     *     bf16 computes in fp32, and its description says so
     * @param nf4Kernels who decodes 4-bit weights for the CPU device
     */
    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker")
    public static Device open(String name, int threads, DType computeType, Nf4Kernels nf4Kernels) {
        String chosen = choose(name).device();
        if (chosen.equals("reference")) {
            return new ReferenceDevice();
        }
        return isCuda(chosen)
                ? new CudaDevice(ordinal(chosen))
                : new CpuDevice(threads(threads), cpuComputeType(computeType), nf4Kernels);
    }

    /** @param device {@code cpu}, {@code cuda:0} … @param reason why {@code auto} means it; empty if it was named */
    public record Choice(String device, String reason) {}

    /**
     * What a name stands for on this machine: {@code auto} is a GPU if its driver and libraries are there, else the
     * CPU; {@code cuda} is a GPU. It is the first one, or for one of several ranks the one of its number on this
     * machine; the only one where a launcher shows each rank one.
     *
     * @throws IllegalArgumentException for a name of no device
     */
    public static Choice choose(String name) {
        if (name.equals("auto")) {
            try {
                CudaDriver.initialize();
                CudaNatives.require();
                String gpu = gpuOfThisRank();
                return new Choice(gpu, gpu.equals("cuda:0") ? CudaDriver.name(CudaDriver.device(0)) : "by local rank");
            } catch (NativeException e) {
                return new Choice(
                        "cpu", "no GPU: " + e.text().lines().findFirst().orElse(""));
            }
        }
        boolean known = name.equals("cpu") || name.equals("reference") || name.equals("cuda") || isCuda(name);
        if (!known) {
            throw new IllegalArgumentException(
                    "device '" + name + "' is not supported; supported: auto, cpu, reference, cuda:0 …");
        }
        return new Choice(name.equals("cuda") ? cudaOfRank() : name, "");
    }

    private static String cudaOfRank() {
        if (localRank(System::getenv) == 0) {
            return "cuda:0";
        }
        CudaDriver.initialize();
        return gpuOfThisRank();
    }

    private static String gpuOfThisRank() {
        return "cuda:" + gpuOfRank(CudaDriver.deviceCount(), localRank(System::getenv));
    }

    /** @param count of GPUs that this process sees */
    static int gpuOfRank(int count, int localRank) {
        return count == 1 ? 0 : localRank;
    }

    /** This process's number on its machine, as Open MPI's or Slurm's launcher says; 0 without one. */
    static int localRank(Function<String, @Nullable String> environment) {
        for (String name : List.of("OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")) {
            String number = environment.apply(name);
            if (number != null && number.matches("\\d{1,4}")) {
                return Integer.parseInt(number);
            }
        }
        return 0;
    }

    /** Whether a device's name is that of a GPU. */
    public static boolean isCuda(String name) {
        return name.matches("cuda:\\d{1,3}");
    }

    /** Its number. @param cuda name of a GPU */
    public static int ordinal(String cuda) {
        return Integer.parseInt(cuda.substring("cuda:".length()));
    }

    /**
     * Bytes of memory of a GPU.
     *
     * @throws NativeException if there is no driver
     */
    public static long gpuMemory(String cuda) {
        CudaDriver.initialize();
        return CudaDriver.totalMemory(CudaDriver.device(ordinal(cuda)));
    }

    /**
     * Bytes of a GPU's memory that nobody holds; this process's context is taken off already.
     *
     * @throws NativeException if there is no driver
     */
    public static long freeGpuMemory(String cuda) {
        CudaDriver.initialize();
        int device = CudaDriver.device(ordinal(cuda));
        CudaDriver.setCurrent(CudaDriver.retainContext(device));
        try {
            return CudaDriver.freeMemory();
        } finally {
            CudaDriver.setCurrent(0);
            CudaDriver.releaseContext(device);
        }
    }

    /** A GPU without its memory and arithmetic, on any machine; see {@link #dryCpu}. */
    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker")
    public static DryDevice dryCuda() {
        return new DryDevice("dry-cuda", DType.BF16, new CudaScratch());
    }

    /**
     * The CPU without its memory and arithmetic: what runs on it computes nothing, and its memory is counted.
     *
     * @param threads as in {@link #open(String, int, DType, Nf4Kernels)}; each has buffers of its own
     * @param computeType likewise
     */
    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker")
    public static DryDevice dryCpu(int threads, DType computeType) {
        boolean bf16 = cpuComputeType(computeType) == DType.BF16;
        return new DryDevice("dry-cpu", DType.F32, new CpuScratch(threads(threads), bf16));
    }

    private static DType cpuComputeType(DType asked) {
        return asked == DType.BF16 && CpuDevice.gainsByBf16() ? DType.BF16 : DType.F32;
    }

    private static int threads(int threads) {
        return threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
    }
}
