package org.qlora4j.bindings;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.qlora4j.bindings.generated.cudart.cudart_h;

/**
 * The CUDA runtime as far as libbitsandbytes needs watching: before each of its calls an error must not be pending,
 * since it ends the process over one.
 */
@SuppressWarnings("restricted")
final class CudaRuntime {
    private CudaRuntime() {}

    /** E.g. 13020 for 13.2. */
    static int version() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment version = arena.allocate(ValueLayout.JAVA_INT);
            check("cudaRuntimeGetVersion", cudart_h.cudaRuntimeGetVersion(version));
            return version.get(ValueLayout.JAVA_INT, 0);
        }
    }

    /** GPUs the runtime sees. */
    static int deviceCount() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment count = arena.allocate(ValueLayout.JAVA_INT);
            check("cudaGetDeviceCount", cudart_h.cudaGetDeviceCount(count));
            return count.get(ValueLayout.JAVA_INT, 0);
        }
    }

    /** Throws for an error of an earlier call that nobody has looked at; it stays pending. */
    static void checkPending(String before) {
        int code = cudart_h.cudaPeekAtLastError();
        if (code != 0) {
            throw new NativeException(
                    "CUDA runtime",
                    "a call before " + before,
                    code,
                    text(code) + "; the device is lost to this process");
        }
    }

    private static void check(String function, int code) {
        if (code != 0) {
            throw new NativeException("CUDA runtime", function, code, text(code));
        }
    }

    private static String text(int code) {
        return cudart_h.cudaGetErrorString(code).reinterpret(Long.MAX_VALUE).getString(0);
    }
}
