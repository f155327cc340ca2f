package org.qlora4j.bindings;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import org.qlora4j.bindings.generated.dnnl.dnnl_h;
import org.qlora4j.bindings.symbols.LibrarySymbols;

/**
 * oneDNN's matrix products, on raw addresses: sizes are checked here, addresses and lifetimes are the caller's.
 * Thread-safe; each calling thread works alone once it said so.
 *
 * @see <a href="https://uxlfoundation.github.io/oneDNN/dev_guide_matmul.html">oneDNN's guide</a>
 */
@SuppressWarnings("restricted")
public final class OneDnn {
    private static final String LIBRARY = "oneDNN";

    /** Whether the library is open: a generated class that is touched before stays broken for ever. */
    private static volatile boolean open;

    private OneDnn() {}

    /** Held apart, since it can only be made once the library is open. */
    private static final class OpenMp {
        static final MethodHandle SET_NUM_THREADS = Linker.nativeLinker()
                .downcallHandle(
                        LibrarySymbols.of(Natives.Library.GOMP.file).find("omp_set_num_threads"),
                        FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT));
    }

    /** Held apart like {@link OpenMp}. */
    private static final class Cpu {
        static final boolean BF16 = hasBf16();

        private static boolean hasBf16() {
            int bf16 = dnnl_h.dnnl_cpu_isa_avx512_core_bf16();
            boolean exported = LibrarySymbols.of(Natives.Library.ONEDNN.file).has("dnnl_gemm_bf16bf16f32");
            return exported && (dnnl_h.dnnl_get_effective_cpu_isa() & bf16) == bf16;
        }
    }

    /**
     * Opens the library unless it is open.
     *
     * @throws NativeException if it cannot be opened; a later call tries again
     */
    public static void require() {
        if (!open) {
            Natives.oneDnn();
            open = true;
        }
    }

    /** Version, e.g. {@code 3.13.0}. */
    public static String version() {
        require();
        // dnnl_version_t begins with int major, minor, patch
        MemorySegment version = dnnl_h.dnnl_version();
        return version.get(ValueLayout.JAVA_INT, 0) + "." + version.get(ValueLayout.JAVA_INT, 4) + "."
                + version.get(ValueLayout.JAVA_INT, 8);
    }

    /** Whether {@link #gemmBf16} can be used: the library has it and the CPU has AVX-512 bf16. */
    public static boolean hasBf16Gemm() {
        require();
        return Cpu.BF16;
    }

    /**
     * Makes every OpenMP region the calling thread enters run on that thread alone; per thread, so each worker calls it
     * once.
     */
    public static void oneThreadForThisThread() {
        require();
        try {
            OpenMp.SET_NUM_THREADS.invokeExact(1);
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError("signature of omp_set_num_threads", e);
        }
    }

    /**
     * {@code C = alpha · op(A) · op(B) + beta · C}, all row-major fp32. With beta 0 the old C is not read.
     *
     * @param transA whether A is stored [k, m] rather than [m, k]
     * @param transB whether B is stored [n, k] rather than [k, n]
     * @param m rows of C
     * @param n columns of C
     * @param k inner size
     * @param aAddress address of A
     * @param lda elements from row to row of A as stored
     * @param bAddress address of B
     * @param ldb elements from row to row of B as stored
     * @param cAddress address of C; may not overlap A or B
     * @param ldc elements from row to row of C
     * @throws IllegalArgumentException if a size or leading dimension is too small or an address is 0
     * @throws NativeException if the library cannot be opened or refuses
     */
    public static void sgemm(
            boolean transA,
            boolean transB,
            long m,
            long n,
            long k,
            float alpha,
            long aAddress,
            long lda,
            long bAddress,
            long ldb,
            float beta,
            long cAddress,
            long ldc) {
        if (!fits(transA, transB, m, n, k, lda, ldb, ldc) || aAddress == 0 || bAddress == 0 || cAddress == 0) {
            throw wrong("sgemm", transA, transB, m, n, k, aAddress, lda, bAddress, ldb, cAddress, ldc);
        }
        require();
        int status = dnnl_h.dnnl_sgemm(
                transA ? (byte) 'T' : (byte) 'N',
                transB ? (byte) 'T' : (byte) 'N',
                m,
                n,
                k,
                alpha,
                MemorySegment.ofAddress(aAddress),
                lda,
                MemorySegment.ofAddress(bAddress),
                ldb,
                beta,
                MemorySegment.ofAddress(cAddress),
                ldc);
        check("dnnl_sgemm", status);
    }

    /**
     * As {@link #sgemm}, with A and B in bf16 and C in fp32; sums are fp32.
     *
     * @throws IllegalStateException if {@link #hasBf16Gemm} is false
     */
    public static void gemmBf16(
            boolean transA,
            boolean transB,
            long m,
            long n,
            long k,
            float alpha,
            long aAddress,
            long lda,
            long bAddress,
            long ldb,
            float beta,
            long cAddress,
            long ldc) {
        if (!fits(transA, transB, m, n, k, lda, ldb, ldc) || aAddress == 0 || bAddress == 0 || cAddress == 0) {
            throw wrong("gemmBf16", transA, transB, m, n, k, aAddress, lda, bAddress, ldb, cAddress, ldc);
        }
        if (!hasBf16Gemm()) {
            throw new IllegalStateException(
                    "gemmBf16 needs a CPU with AVX-512 bf16; ask hasBf16Gemm() first and use sgemm otherwise");
        }
        int status = dnnl_h.dnnl_gemm_bf16bf16f32(
                transA ? (byte) 'T' : (byte) 'N',
                transB ? (byte) 'T' : (byte) 'N',
                m,
                n,
                k,
                alpha,
                MemorySegment.ofAddress(aAddress),
                lda,
                MemorySegment.ofAddress(bAddress),
                ldb,
                beta,
                MemorySegment.ofAddress(cAddress),
                ldc);
        check("dnnl_gemm_bf16bf16f32", status);
    }

    private static boolean fits(boolean transA, boolean transB, long m, long n, long k, long lda, long ldb, long ldc) {
        return m >= 1 && n >= 1 && k >= 1 && lda >= (transA ? m : k) && ldb >= (transB ? k : n) && ldc >= n;
    }

    private static IllegalArgumentException wrong(
            String function,
            boolean transA,
            boolean transB,
            long m,
            long n,
            long k,
            long a,
            long lda,
            long b,
            long ldb,
            long c,
            long ldc) {
        String reason = m < 1 || n < 1 || k < 1
                ? "sizes must be at least 1"
                : a == 0 || b == 0 || c == 0
                        ? "an address is 0"
                        : "leading dimensions must be at least " + (transA ? m : k) + ", " + (transB ? k : n) + ", "
                                + n;
        return new IllegalArgumentException(
                "%s: %s; got m %d, n %d, k %d, lda %d%s, ldb %d%s, ldc %d, addresses %#x, %#x, %#x"
                        .formatted(
                                function,
                                reason,
                                m,
                                n,
                                k,
                                lda,
                                transA ? " (A transposed)" : "",
                                ldb,
                                transB ? " (B transposed)" : "",
                                ldc,
                                a,
                                b,
                                c));
    }

    private static void check(String function, int status) {
        if (status != dnnl_h.dnnl_success()) {
            throw new NativeException(LIBRARY, function, status, statusName(status));
        }
    }

    /** Names of {@code dnnl_status_t}, oneDNN 3.13. */
    static String statusName(int status) {
        String[] names = {
            "success",
            "out of memory",
            "invalid arguments",
            "unimplemented",
            "last implementation reached",
            "runtime error",
            "not required",
            "invalid graph",
            "invalid graph operation",
            "invalid shape",
            "invalid data type"
        };
        return status >= 0 && status < names.length ? names[status] : "a status that oneDNN 3.13 does not know";
    }
}
