package org.qlora4j.nf4.device.cuda;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.nio.charset.StandardCharsets.UTF_8;

import org.qlora4j.bindings.CudaBitsAndBytes;
import org.qlora4j.bindings.CudaBitsAndBytes.FourBit;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.bindings.HostMemory;

/** What {@link CrashTest} runs in a process of its own. Arguments: a mistake's name; whether to make it. */
final class CrashingProgram {
    /** Mistakes that no test in the same process could outlive. */
    enum Mistake {
        HOST_READS_DEVICE_MEMORY,
        HOST_READS_MANAGED_MEMORY_BEFORE_WORK_IS_DONE,
        KERNEL_WRITES_A_ROW_TOO_MANY,
        COPY_BEHIND_THE_END,
        WORK_ON_FREED_MEMORY,
        SCALES_WITHOUT_ROOM_FOR_THE_LAST_TILE
    }

    private CrashingProgram() {}

    public static void main(String[] args) {
        Mistake mistake = Mistake.valueOf(args[0]);
        boolean made = Boolean.parseBoolean(args[1]);
        try (TestGpu gpu = new TestGpu()) {
            System.out.println("begins");
            switch (mistake) {
                case HOST_READS_DEVICE_MEMORY -> {
                    long x = gpu.upload(1f);
                    read(made ? x : gpu.pinned(4));
                }
                case HOST_READS_MANAGED_MEMORY_BEFORE_WORK_IS_DONE -> {
                    long x = CudaDriver.allocateManaged(64);
                    CudaDriver.fillBytes(x, 0, 64, gpu.stream);
                    if (!made) {
                        CudaDriver.synchronize(gpu.stream);
                    }
                    read(x);
                }
                case KERNEL_WRITES_A_ROW_TOO_MANY -> fill(gpu, made ? 5 : 4);
                case COPY_BEHIND_THE_END -> {
                    CudaDriver.copyToHost(gpu.pinned(4096), gpu.allocate(1024), made ? 1040 : 1024, gpu.stream);
                    CudaDriver.synchronize(gpu.stream);
                }
                case WORK_ON_FREED_MEMORY -> {
                    long x = CudaDriver.allocate(64);
                    if (made) {
                        CudaDriver.free(x);
                    }
                    CudaDriver.fillBytes(x, 0, 64, gpu.stream);
                    CudaDriver.synchronize(gpu.stream);
                }
                case SCALES_WITHOUT_ROOM_FOR_THE_LAST_TILE -> {
                    // 64 elements of a tile of 1024 have one scale, the tile has 16
                    float[] one = {1};
                    CudaBitsAndBytes.dequantize4BitToBf16(
                            FourBit.NF4,
                            gpu.upload(new byte[32]),
                            gpu.upload(one, made ? 1 : 16),
                            gpu.allocate(128),
                            64,
                            64,
                            gpu.stream);
                    CudaDriver.synchronize(gpu.stream);
                }
            }
            System.out.println("ends");
        }
    }

    private static void read(long address) {
        System.out.println("reads " + HostMemory.ALL.get(JAVA_FLOAT_UNALIGNED, address));
    }

    /** fill_f32 of rows of 64 in memory for four. */
    private static void fill(TestGpu gpu, int rows) {
        long function = CudaDriver.function(CudaDriver.loadModule("any image".getBytes(UTF_8)), "fill_f32");
        long y = gpu.allocate(4 * 64 * 4);
        long values = gpu.pinned(5 * 8);
        long addresses = gpu.pinned(5 * 8);
        HostMemory.ALL.set(JAVA_LONG, values, y);
        HostMemory.ALL.set(JAVA_INT, values + 8, 64);
        HostMemory.ALL.set(JAVA_INT, values + 16, rows);
        HostMemory.ALL.set(JAVA_INT, values + 24, 64);
        HostMemory.ALL.set(JAVA_FLOAT_UNALIGNED, values + 32, 1);
        for (int i = 0; i < 5; i++) {
            HostMemory.ALL.set(JAVA_LONG, addresses + 8L * i, values + 8L * i);
        }
        CudaDriver.launch(function, 2, 1, 1, 256, 1, 0, gpu.stream, addresses);
        CudaDriver.synchronize(gpu.stream);
    }
}
