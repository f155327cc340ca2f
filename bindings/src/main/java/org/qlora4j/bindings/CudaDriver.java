package org.qlora4j.bindings;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.generated.cuda.CUDA_MEMCPY2D;
import org.qlora4j.bindings.generated.cuda.cuda_h;

/**
 * NVIDIA's driver interface on raw addresses and handles: device memory is a {@code long}, so are streams, events,
 * modules and functions. Sizes are checked here, addresses and lifetimes are the caller's. Every function but
 * {@link #version} and the device queries needs a context that is current on the calling thread.
 *
 * <p>Memory is allocated and copied with this interface alone, never with the CUDA runtime: a failure here is an
 * exception, one there would stay pending and let libbitsandbytes end the process.
 *
 * @see <a href="https://docs.nvidia.com/cuda/cuda-driver-api/">NVIDIA's reference</a>
 */
@SuppressWarnings("restricted")
public final class CudaDriver {
    /** {@code CU_DEVICE_ATTRIBUTE_…} of {@link #attribute}; the highest clock, in kHz. */
    public static final int CLOCK_RATE = 13;

    public static final int MULTIPROCESSOR_COUNT = 16;
    /** In kHz; data goes at both edges. 0 where the driver does not say. */
    public static final int MEMORY_CLOCK_RATE = 36;
    /** In bits. */
    public static final int GLOBAL_MEMORY_BUS_WIDTH = 37;

    public static final int COMPUTE_CAPABILITY_MAJOR = 75;
    public static final int COMPUTE_CAPABILITY_MINOR = 76;
    public static final int CONCURRENT_MANAGED_ACCESS = 89;
    public static final int MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97;

    /** Of {@link #newStream}: does not wait for the legacy stream, on which libbitsandbytes quantizes and optimizes. */
    public static final int NON_BLOCKING = 1;

    private static final String LIBRARY = "CUDA driver";
    private static final int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
    private static final int MEMORY_HOST = 1;
    private static final int MEMORY_DEVICE = 2;
    private static final int ATTACH_GLOBAL = 1;
    private static final int OUT_OF_MEMORY = 2;

    private static volatile boolean initialized;

    private CudaDriver() {}

    /**
     * Opens the driver library and initializes it, once.
     *
     * @throws NativeException if there is no driver, or no GPU
     */
    public static void initialize() {
        if (!initialized) {
            CudaNatives.requireDriver();
            check("cuInit", cuda_h.cuInit(0));
            initialized = true;
        }
    }

    /** The CUDA version the driver runs, e.g. 13020 for 13.2. */
    public static int version() {
        return intResult("cuDriverGetVersion", cuda_h::cuDriverGetVersion);
    }

    /** GPUs that may be used (CUDA_VISIBLE_DEVICES). */
    public static int deviceCount() {
        return intResult("cuDeviceGetCount", cuda_h::cuDeviceGetCount);
    }

    /** Handle of a GPU. @param ordinal below {@link #deviceCount} */
    public static int device(int ordinal) {
        return intResult("cuDeviceGet", out -> cuda_h.cuDeviceGet(out, ordinal));
    }

    /** E.g. {@code NVIDIA H100 80GB HBM3}. */
    public static String name(int device) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment name = arena.allocate(256);
            check("cuDeviceGetName", cuda_h.cuDeviceGetName(name, 256, device));
            return name.getString(0);
        }
    }

    /** Bytes of memory on the card. */
    public static long totalMemory(int device) {
        return longResult("cuDeviceTotalMem", out -> cuda_h.cuDeviceTotalMem_v2(out, device));
    }

    /** One of the constants above. */
    public static int attribute(int device, int attribute) {
        return intResult("cuDeviceGetAttribute", out -> cuda_h.cuDeviceGetAttribute(out, attribute, device));
    }

    /** The primary context, which the CUDA runtime and cuBLAS use too; one {@link #releaseContext} for each call. */
    public static long retainContext(int device) {
        return longResult("cuDevicePrimaryCtxRetain", out -> cuda_h.cuDevicePrimaryCtxRetain(out, device));
    }

    public static void releaseContext(int device) {
        check("cuDevicePrimaryCtxRelease", cuda_h.cuDevicePrimaryCtxRelease_v2(device));
    }

    /** Makes a context current on the calling thread. */
    public static void setCurrent(long context) {
        check("cuCtxSetCurrent", cuda_h.cuCtxSetCurrent(MemorySegment.ofAddress(context)));
    }

    /** Bytes free on the current context's device. */
    public static long freeMemory() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment free = arena.allocate(JAVA_LONG);
            check("cuMemGetInfo", cuda_h.cuMemGetInfo_v2(free, arena.allocate(JAVA_LONG)));
            return free.get(JAVA_LONG, 0);
        }
    }

    /**
     * Device memory, 256 bytes aligned, its content undefined.
     *
     * @throws OutOfMemoryError if the device has no room
     */
    public static long allocate(long bytes) {
        positive("allocate", bytes);
        return address("cuMemAlloc", bytes, out -> cuda_h.cuMemAlloc_v2(out, bytes));
    }

    /**
     * Managed memory, which the driver moves between host and device.
     *
     * @throws OutOfMemoryError if there is no room
     */
    public static long allocateManaged(long bytes) {
        positive("allocateManaged", bytes);
        return address("cuMemAllocManaged", bytes, out -> cuda_h.cuMemAllocManaged(out, bytes, ATTACH_GLOBAL));
    }

    /** Frees device or managed memory, after all work on it. */
    public static void free(long address) {
        check("cuMemFree", cuda_h.cuMemFree_v2(address));
    }

    /**
     * Page-locked host memory, which the device reads and writes at full speed.
     *
     * @throws OutOfMemoryError if there is no room
     */
    public static long allocateHost(long bytes) {
        positive("allocateHost", bytes);
        return address("cuMemHostAlloc", bytes, out -> cuda_h.cuMemHostAlloc(out, bytes, 0));
    }

    public static void freeHost(long address) {
        check("cuMemFreeHost", cuda_h.cuMemFreeHost(MemorySegment.ofAddress(address)));
    }

    /** Copies from page-locked host memory; the host bytes must stay until the stream has got there. */
    public static void copyToDevice(long device, long host, long bytes, long stream) {
        positive("copyToDevice", bytes);
        check(
                "cuMemcpyHtoDAsync",
                cuda_h.cuMemcpyHtoDAsync_v2(
                        device, MemorySegment.ofAddress(host), bytes, MemorySegment.ofAddress(stream)));
    }

    /** Copies to page-locked host memory; the bytes are there once the stream has got there. */
    public static void copyToHost(long host, long device, long bytes, long stream) {
        positive("copyToHost", bytes);
        check(
                "cuMemcpyDtoHAsync",
                cuda_h.cuMemcpyDtoHAsync_v2(
                        MemorySegment.ofAddress(host), device, bytes, MemorySegment.ofAddress(stream)));
    }

    /** Copies within the device. */
    public static void copyOnDevice(long to, long from, long bytes, long stream) {
        positive("copyOnDevice", bytes);
        check("cuMemcpyDtoDAsync", cuda_h.cuMemcpyDtoDAsync_v2(to, from, bytes, MemorySegment.ofAddress(stream)));
    }

    /** Rows from page-locked host memory. @param devicePitch bytes from row to row on the device */
    public static void copyRowsToDevice(
            long device, long devicePitch, long host, long hostPitch, long rowBytes, long rows, long stream) {
        copyRows(true, device, devicePitch, host, hostPitch, rowBytes, rows, stream);
    }

    /** Rows to page-locked host memory. @param devicePitch bytes from row to row on the device */
    public static void copyRowsToHost(
            long host, long hostPitch, long device, long devicePitch, long rowBytes, long rows, long stream) {
        copyRows(false, device, devicePitch, host, hostPitch, rowBytes, rows, stream);
    }

    private static void copyRows(
            boolean toDevice,
            long device,
            long devicePitch,
            long host,
            long hostPitch,
            long rowBytes,
            long rows,
            long stream) {
        positive("copyRows", rowBytes);
        positive("copyRows", rows);
        if (devicePitch < rowBytes || hostPitch < rowBytes) {
            throw new IllegalArgumentException("copyRows: rows of " + rowBytes + " bytes need pitches as large, got "
                    + devicePitch + " and " + hostPitch);
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment copy = CUDA_MEMCPY2D.allocate(arena);
            MemorySegment hostAddress = MemorySegment.ofAddress(host);
            if (toDevice) {
                CUDA_MEMCPY2D.srcMemoryType(copy, MEMORY_HOST);
                CUDA_MEMCPY2D.srcHost(copy, hostAddress);
                CUDA_MEMCPY2D.srcPitch(copy, hostPitch);
                CUDA_MEMCPY2D.dstMemoryType(copy, MEMORY_DEVICE);
                CUDA_MEMCPY2D.dstDevice(copy, device);
                CUDA_MEMCPY2D.dstPitch(copy, devicePitch);
            } else {
                CUDA_MEMCPY2D.srcMemoryType(copy, MEMORY_DEVICE);
                CUDA_MEMCPY2D.srcDevice(copy, device);
                CUDA_MEMCPY2D.srcPitch(copy, devicePitch);
                CUDA_MEMCPY2D.dstMemoryType(copy, MEMORY_HOST);
                CUDA_MEMCPY2D.dstHost(copy, hostAddress);
                CUDA_MEMCPY2D.dstPitch(copy, hostPitch);
            }
            CUDA_MEMCPY2D.WidthInBytes(copy, rowBytes);
            CUDA_MEMCPY2D.Height(copy, rows);
            check("cuMemcpy2DAsync", cuda_h.cuMemcpy2DAsync_v2(copy, MemorySegment.ofAddress(stream)));
        }
    }

    /** Sets {@code bytes} bytes to the same value. */
    public static void fillBytes(long address, int value, long bytes, long stream) {
        positive("fillBytes", bytes);
        check("cuMemsetD8Async", cuda_h.cuMemsetD8Async(address, (byte) value, bytes, MemorySegment.ofAddress(stream)));
    }

    /** A stream. @param flags 0 or {@link #NON_BLOCKING} */
    public static long newStream(int flags) {
        return longResult("cuStreamCreate", out -> cuda_h.cuStreamCreate(out, flags));
    }

    public static void destroyStream(long stream) {
        check("cuStreamDestroy", cuda_h.cuStreamDestroy_v2(MemorySegment.ofAddress(stream)));
    }

    /** Waits until all work given to the stream is done; errors of that work come up here. */
    public static void synchronize(long stream) {
        check("cuStreamSynchronize", cuda_h.cuStreamSynchronize(MemorySegment.ofAddress(stream)));
    }

    /** An event. */
    public static long newEvent() {
        return longResult("cuEventCreate", out -> cuda_h.cuEventCreate(out, 0));
    }

    public static void destroyEvent(long event) {
        check("cuEventDestroy", cuda_h.cuEventDestroy_v2(MemorySegment.ofAddress(event)));
    }

    /** The event happens when the stream gets here. */
    public static void record(long event, long stream) {
        check("cuEventRecord", cuda_h.cuEventRecord(MemorySegment.ofAddress(event), MemorySegment.ofAddress(stream)));
    }

    /** The stream's later work waits for the event. */
    public static void waitFor(long stream, long event) {
        check(
                "cuStreamWaitEvent",
                cuda_h.cuStreamWaitEvent(MemorySegment.ofAddress(stream), MemorySegment.ofAddress(event), 0));
    }

    /** The host waits for the event. */
    public static void synchronizeEvent(long event) {
        check("cuEventSynchronize", cuda_h.cuEventSynchronize(MemorySegment.ofAddress(event)));
    }

    /** Loads a CUBIN. */
    public static long loadModule(byte[] image) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocateFrom(java.lang.foreign.ValueLayout.JAVA_BYTE, image);
            return longResult("cuModuleLoadData", out -> cuda_h.cuModuleLoadData(out, bytes));
        }
    }

    public static void unloadModule(long module) {
        check("cuModuleUnload", cuda_h.cuModuleUnload(MemorySegment.ofAddress(module)));
    }

    /** A kernel of a module, by its C name. */
    public static long function(long module, String name) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocateFrom(name);
            return longResult(
                    "cuModuleGetFunction (" + name + ")",
                    out -> cuda_h.cuModuleGetFunction(out, MemorySegment.ofAddress(module), text));
        }
    }

    /** Lets a kernel have more than 48 KB of dynamic shared memory. */
    public static void allowSharedMemory(long function, int bytes) {
        check(
                "cuFuncSetAttribute",
                cuda_h.cuFuncSetAttribute(MemorySegment.ofAddress(function), MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes));
    }

    /**
     * Starts a kernel.
     *
     * @param parameters address of an array of addresses, one for each parameter of the kernel
     * @throws IllegalArgumentException if the grid or the block is larger than any device allows
     */
    public static void launch(
            long function,
            int gridX,
            int gridY,
            int gridZ,
            int blockX,
            int blockY,
            int sharedBytes,
            long stream,
            long parameters) {
        if (gridX < 1
                || gridY < 1
                || gridZ < 1
                || gridY > 65_535
                || gridZ > 65_535
                || blockX < 1
                || blockY < 1
                || blockX * blockY > 1024) {
            throw new IllegalArgumentException(
                    "a launch needs a grid of at most [2147483647, 65535, 65535] blocks of at"
                            + " most 1024 threads; got [" + gridX + ", " + gridY + ", " + gridZ + "] of " + blockX
                            + " x " + blockY);
        }
        check(
                "cuLaunchKernel",
                cuda_h.cuLaunchKernel(
                        MemorySegment.ofAddress(function),
                        gridX,
                        gridY,
                        gridZ,
                        blockX,
                        blockY,
                        1,
                        sharedBytes,
                        MemorySegment.ofAddress(stream),
                        MemorySegment.ofAddress(parameters),
                        MemorySegment.NULL));
    }

    /** A call with one result parameter. */
    private interface Call {
        int with(MemorySegment result);
    }

    private static int intResult(String function, Call call) {
        initialize();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_INT);
            check(function, call.with(out));
            return out.get(JAVA_INT, 0);
        }
    }

    private static long longResult(String function, Call call) {
        initialize();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_LONG);
            check(function, call.with(out));
            return out.get(JAVA_LONG, 0);
        }
    }

    private static long address(String function, long bytes, Call call) {
        initialize();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_LONG);
            int code = call.with(out);
            if (code == OUT_OF_MEMORY) {
                throw new OutOfMemoryError(function + ": no room for " + bytes + " bytes");
            }
            check(function, code);
            return out.get(JAVA_LONG, 0);
        }
    }

    private static void positive(String what, long count) {
        if (count < 1) {
            throw new IllegalArgumentException(what + ": expected at least one byte or row, got " + count);
        }
    }

    private static void check(String function, int code) {
        if (code != 0) {
            throw new NativeException(LIBRARY, function, code, text(code));
        }
    }

    private static String text(int code) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            String name = string(cuda_h.cuGetErrorName(code, out), out);
            return name + ": " + string(cuda_h.cuGetErrorString(code, out), out);
        }
    }

    private static String string(int status, MemorySegment out) {
        return status == 0
                ? out.get(ADDRESS, 0).reinterpret(Long.MAX_VALUE).getString(0)
                : "a code that this driver does not know";
    }
}
