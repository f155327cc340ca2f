package org.qlora4j.bindings;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.qlora4j.bindings.generated.cublas.cublas_h;

/**
 * One cuBLAS handle: matrix products on a stream. Sizes are checked here, addresses are the caller's; the device's
 * context must be current on the calling thread. Not for two threads at once.
 *
 * @see <a href="https://docs.nvidia.com/cuda/cublas/">NVIDIA's reference</a>
 */
@SuppressWarnings("restricted")
public final class CuBlas implements AutoCloseable {
    /** Element types. */
    public enum Type {
        F32(0),
        F16(2),
        BF16(14);

        private final int code;

        Type(int code) {
            this.code = code;
        }
    }

    private static final String LIBRARY = "cuBLAS";
    private static final int NO_TRANSPOSE = 0;
    private static final int TRANSPOSE = 1;
    private static final int COMPUTE_32F = 68;
    private static final int DEFAULT_ALGORITHM = -1;

    /** Sums of split products are added in fp32: the same bits whatever the split. */
    private static final int DISALLOW_REDUCED_PRECISION_REDUCTION = 16;

    private final MemorySegment handle;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment alpha = arena.allocate(ValueLayout.JAVA_FLOAT);
    private final MemorySegment beta = arena.allocate(ValueLayout.JAVA_FLOAT);

    /**
     * Opens a handle.
     *
     * @param stream all work goes there
     * @param workspace device memory for it alone, 256 bytes aligned; a fixed one makes results repeatable
     * @param workspaceBytes NVIDIA advises 32 MiB from compute capability 9.0 on, 4 MiB before
     */
    public CuBlas(long stream, long workspace, long workspaceBytes) {
        CudaNatives.require();
        try (Arena local = Arena.ofConfined()) {
            MemorySegment out = local.allocate(ValueLayout.ADDRESS);
            check("cublasCreate", cublas_h.cublasCreate_v2(out));
            handle = out.get(ValueLayout.ADDRESS, 0);
        }
        // setting the stream resets the workspace, so this order
        check("cublasSetStream", cublas_h.cublasSetStream_v2(handle, MemorySegment.ofAddress(stream)));
        check(
                "cublasSetWorkspace",
                cublas_h.cublasSetWorkspace_v2(handle, MemorySegment.ofAddress(workspace), workspaceBytes));
        check("cublasSetMathMode", cublas_h.cublasSetMathMode(handle, DISALLOW_REDUCED_PRECISION_REDUCTION));
    }

    /** E.g. 130400 for 13.4. */
    public int version() {
        try (Arena local = Arena.ofConfined()) {
            MemorySegment out = local.allocate(ValueLayout.JAVA_INT);
            check("cublasGetVersion", cublas_h.cublasGetVersion_v2(handle, out));
            return out.get(ValueLayout.JAVA_INT, 0);
        }
    }

    /**
     * {@code C = alpha · op(A) · op(B) + beta · C}, all row-major, sums in fp32. With beta 0 the old C is not read.
     *
     * @param transA whether A is stored [k, m] rather than [m, k]
     * @param transB whether B is stored [n, k] rather than [k, n]
     * @param inputs type of A and B
     * @param output type of C: that of the inputs, or F32
     * @param lda elements from row to row of A as stored; likewise ldb, ldc
     * @throws IllegalArgumentException if a size does not fit or an address is 0
     */
    public void gemm(
            boolean transA,
            boolean transB,
            int m,
            int n,
            int k,
            float alphaValue,
            long a,
            int lda,
            long b,
            int ldb,
            Type inputs,
            float betaValue,
            long c,
            int ldc,
            Type output) {
        if (m < 1
                || n < 1
                || k < 1
                || lda < (transA ? m : k)
                || ldb < (transB ? k : n)
                || ldc < n
                || a == 0
                || b == 0
                || c == 0
                || output != inputs && output != Type.F32) {
            throw new IllegalArgumentException(
                    "gemm: got m %d, n %d, k %d, lda %d%s, ldb %d%s, ldc %d, addresses %#x, %#x, %#x, %s to %s"
                            .formatted(
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
                                    c,
                                    inputs,
                                    output));
        }
        alpha.set(ValueLayout.JAVA_FLOAT, 0, alphaValue);
        beta.set(ValueLayout.JAVA_FLOAT, 0, betaValue);
        // cuBLAS is column-major: a row-major matrix is its transpose there, and Cᵀ = op(B)ᵀ·op(A)ᵀ
        check(
                "cublasGemmEx",
                cublas_h.cublasGemmEx(
                        handle,
                        transB ? TRANSPOSE : NO_TRANSPOSE,
                        transA ? TRANSPOSE : NO_TRANSPOSE,
                        n,
                        m,
                        k,
                        alpha,
                        MemorySegment.ofAddress(b),
                        inputs.code,
                        ldb,
                        MemorySegment.ofAddress(a),
                        inputs.code,
                        lda,
                        beta,
                        MemorySegment.ofAddress(c),
                        output.code,
                        ldc,
                        COMPUTE_32F,
                        DEFAULT_ALGORITHM));
    }

    private static void check(String function, int status) {
        if (status != 0) {
            throw new NativeException(
                    LIBRARY,
                    function,
                    status,
                    cublas_h.cublasGetStatusName(status)
                            .reinterpret(Long.MAX_VALUE)
                            .getString(0));
        }
    }

    @Override
    public void close() {
        check("cublasDestroy", cublas_h.cublasDestroy_v2(handle));
        arena.close();
    }
}
