package org.qlora4j.nf4.device.cpu;

import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.OneDnn;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** Matrix products: oneDNN's sgemm on each worker's share, frozen weights decoded panel by panel. */
final class Gemm {
    /** Products below this many multiply-adds are not worth waking a worker. */
    private static final long ALONE = 1 << 17;

    /** Floats in a decoded panel: half of a 1 MiB level-2 cache. */
    static final int PANEL_FLOATS = 1 << 17;

    /** Floats of a weight decoded by all workers together: a part of the level-3 cache. */
    static final int CHUNK_FLOATS = 1 << 20;

    /** Weights whose scales are restored at a time. */
    static final int SCRATCH_ELEMENTS = 1 << 16;

    static final int TILE = 16;

    /** Rows of x up to which dot products with the stored weights beat decoding a panel for sgemm. */
    static final int DIRECT_DENSE = 4;

    /** The same for 4-bit weights, whose dot products decode them once for each row of x. */
    private static final int DIRECT_4_BIT = 2;

    private final Workers workers;
    private final Kernels kernels;
    private final PooledScopes scopes;
    private final long[] tables;
    private final boolean byLibrary;
    /** For products with frozen weights, if they are computed in bf16. */
    private final @Nullable Bf16Gemm bf16;

    Gemm(Workers workers, Kernels kernels, PooledScopes scopes, long[] tables, boolean byLibrary, boolean inBf16) {
        this.workers = workers;
        this.kernels = kernels;
        this.scopes = scopes;
        this.tables = tables;
        this.byLibrary = byLibrary;
        this.bf16 = inBf16 ? new Bf16Gemm(workers, kernels, scopes) : null;
    }

    private WeightRows rowsOf(Weight w) {
        return new WeightRows(kernels, w, tables, byLibrary);
    }

    void dense(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, float alpha, float beta) {
        int m = out.rows();
        int n = out.cols();
        int k = transA ? a.rows() : a.cols();
        if (m == 0 || n == 0) {
            return;
        }
        if (k == 0) {
            scale(out, beta);
            return;
        }
        if (m >= 4 * TILE && (transA ? n <= TILE : transB && 2 * n <= TILE)) {
            narrow(out, a, transA, b, transB, alpha, beta);
            return;
        }
        Workers.Task task = (worker, count) -> {
            boolean byRows = m >= n;
            int from = Workers.from(byRows ? m : n, TILE, worker, count);
            int to = Workers.from(byRows ? m : n, TILE, worker + 1, count);
            if (from == to) {
                return;
            }
            long aAt = byRows ? a.address() + 4L * from * (transA ? 1 : a.stride()) : a.address();
            long bAt = byRows ? b.address() : b.address() + 4L * from * (transB ? b.stride() : 1);
            long cAt = out.address() + 4L * from * (byRows ? out.stride() : 1);
            int rows = byRows ? to - from : m;
            int cols = byRows ? n : to - from;
            OneDnn.sgemm(
                    transA, transB, rows, cols, k, alpha, aAt, a.stride(), bAt, b.stride(), beta, cAt, out.stride());
        };
        if ((long) m * n * k < ALONE) {
            workers.runAlone(task);
        } else {
            workers.run(task);
        }
    }

    /**
     * A result of few columns, LoRA's u and the gradient of B: its transpose, turned around. sgemm takes as long for 8
     * columns as for 16, while rows may be few: [256, 8] of 576 products 38 µs, [8, 256] 20; dyᵀ·u 60 and 14.
     */
    private void narrow(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, float alpha, float beta) {
        try (Scope scope = scopes.newScope()) {
            Tensor transposed = scope.newTensor(DType.F32, out.cols(), out.rows());
            dense(transposed, b, !transB, a, !transA, alpha, 0);
            workers.run((worker, count) -> {
                int to = Workers.from(out.rows(), TILE, worker + 1, count);
                for (int i = Workers.from(out.rows(), TILE, worker, count); i < to; i++) {
                    for (int j = 0; j < out.cols(); j++) {
                        float sum = get(transposed.rowAddress(j) + 4L * i);
                        long at = out.rowAddress(i) + 4L * j;
                        set(at, beta == 0 ? sum : Math.fma(beta, get(at), sum));
                    }
                }
            });
        }
    }

    private void scale(Tensor out, float beta) {
        for (int r = 0; r < out.rows(); r++) {
            for (int c = 0; c < out.cols(); c++) {
                long at = out.rowAddress(r) + 4L * c;
                set(at, beta == 0 ? 0 : beta * get(at));
            }
        }
    }

    void weight(Tensor out, Tensor x, Weight w, boolean transW, float beta) {
        if (out.rows() == 0) {
            return;
        }
        WeightRows rows = rowsOf(w);
        boolean direct = transW
                && rows.hasDirectDot()
                && x.rows() <= (w instanceof Weight.Quantized ? DIRECT_4_BIT : DIRECT_DENSE);
        if (direct) {
            vectorProduct(out, x, w, rows, beta);
        } else if (bf16 != null && transW) {
            bf16.forward(out, x, w, rows, beta);
        } else if (bf16 != null) {
            bf16.backward(out, x, w, rows, beta);
        } else if (w instanceof Weight.Dense d && rows.inPlace()) {
            dense(out, x, false, d.values(), transW, 1, beta);
        } else if (transW) {
            forward(out, x, w, rows, beta);
        } else {
            backward(out, x, w, rows, beta);
        }
    }

    /** y = x·Wᵀ: each worker has its output columns, so that nothing is decoded twice. */
    private void forward(Tensor out, Tensor x, Weight w, WeightRows rows, float beta) {
        int cols = w.cols();
        int panel = Math.max(TILE, PANEL_FLOATS / cols / TILE * TILE);
        try (Scope scope = scopes.newScope()) {
            Tensor buffers = scope.newTensor(DType.F32, workers.count(), bufferFloats(panel, cols, rows));
            workers.run((worker, count) -> {
                int from = Workers.from(w.rows(), TILE, worker, count);
                int to = Workers.from(w.rows(), TILE, worker + 1, count);
                long buffer = buffers.rowAddress(worker);
                for (int r = from; r < to; r += panel) {
                    int n = Math.min(panel, to - r);
                    rows.decode(buffer, r, 0, n * cols, buffer + 4L * panel * cols);
                    OneDnn.sgemm(
                            false,
                            true,
                            x.rows(),
                            n,
                            cols,
                            1,
                            x.address(),
                            x.stride(),
                            buffer,
                            cols,
                            beta,
                            out.address() + 4L * r,
                            out.stride());
                }
            });
        }
    }

    /** dx = dy·W: all workers decode some 4 MiB of W, then share the product with it by rows or columns of dx. */
    private void backward(Tensor out, Tensor dy, Weight w, WeightRows rows, float beta) {
        int cols = w.cols();
        int chunk = Math.min(w.rows(), Math.max(TILE, CHUNK_FLOATS / cols / TILE * TILE));
        try (Scope scope = scopes.newScope()) {
            Tensor values = scope.newTensor(DType.F32, chunk, cols);
            for (int r = 0; r < w.rows(); r += chunk) {
                int first = r;
                Tensor part = values.rows(0, Math.min(chunk, w.rows() - r));
                decodeRows(part, w, rows, first);
                dense(out, dy.cols(r, part.rows()), false, part, false, 1, r == 0 ? beta : 1);
            }
        }
    }

    private static int bufferFloats(int panel, int cols, WeightRows rows) {
        return Math.addExact(Math.multiplyExact(panel, cols), rows.scratchFloats(panel * cols)) + TILE;
    }

    /** A few rows of x: dot products straight from the stored weights, which are read once. */
    private void vectorProduct(Tensor out, Tensor x, Weight w, WeightRows rows, float beta) {
        int cols = w.cols();
        try (Scope scope = scopes.newScope()) {
            boolean ownOrder = rows.hasOwnOrder();
            Tensor inputs = ownOrder ? scope.newTensor(DType.F32, x.rows(), Kernels.permutedFloats(cols)) : x;
            for (int i = 0; ownOrder && i < x.rows(); i++) {
                rows.permute(inputs.rowAddress(i), x.rowAddress(i));
            }
            int perPanel = Math.max(1, SCRATCH_ELEMENTS / cols);
            Tensor scratch = scope.newTensor(DType.F32, workers.count(), rows.scratchFloats(perPanel * cols) + TILE);
            Tensor products = scope.newTensor(DType.F32, workers.count(), perPanel);
            workers.run((worker, count) -> {
                int to = Workers.from(w.rows(), TILE, worker + 1, count);
                for (int r = Workers.from(w.rows(), TILE, worker, count); r < to; r += perPanel) {
                    int n = Math.min(perPanel, to - r);
                    long absmax = 0;
                    if (w instanceof Weight.Quantized q) {
                        int blocks = cols / q.blockSize();
                        absmax = WeightRows.absmax(q, (long) r * blocks, n * blocks, scratch.rowAddress(worker));
                    }
                    for (int i = 0; i < inputs.rows(); i++) {
                        long at = out.rowAddress(i) + 4L * r;
                        if (beta == 0) {
                            rows.dot(at, r, n, inputs.rowAddress(i), absmax);
                        } else {
                            rows.dot(products.rowAddress(worker), r, n, inputs.rowAddress(i), absmax);
                            kernels.axpby(at, 1, products.rowAddress(worker), beta, n);
                        }
                    }
                }
            });
        }
    }

    /** Panel by panel: rows decoded, the low-rank product added by sgemm, squares summed in double. */
    void inverseRowNorms(Tensor out, Weight w, Tensor a, Tensor b, float scale) {
        WeightRows rows = rowsOf(w);
        int cols = w.cols();
        int panel = Math.max(1, PANEL_FLOATS / cols);
        try (Scope scope = scopes.newScope()) {
            Tensor buffers = scope.newTensor(DType.F32, workers.count(), bufferFloats(panel, cols, rows));
            workers.run((worker, count) -> {
                long buffer = buffers.rowAddress(worker);
                int to = Workers.from(w.rows(), 1, worker + 1, count);
                for (int r = Workers.from(w.rows(), 1, worker, count); r < to; r += panel) {
                    int n = Math.min(panel, to - r);
                    rows.decode(buffer, r, 0, n * cols, buffer + 4L * panel * cols);
                    OneDnn.sgemm(
                            false,
                            false,
                            n,
                            cols,
                            a.rows(),
                            scale,
                            b.rowAddress(r),
                            b.stride(),
                            a.address(),
                            a.stride(),
                            1,
                            buffer,
                            cols);
                    for (int i = 0; i < n; i++) {
                        double sum = kernels.sumOfSquares(buffer + 4L * i * cols, cols);
                        set(out.address() + 4L * (r + i), sum == 0 ? 0 : (float) (1 / Math.sqrt(sum)));
                    }
                }
            });
        }
    }

    void dequantize(Tensor out, Weight w) {
        decodeRows(out, w, rowsOf(w), 0);
    }

    /** out = rows of w from {@code first} on. */
    private void decodeRows(Tensor out, Weight w, WeightRows rows, int first) {
        int cols = w.cols();
        try (Scope scope = scopes.newScope()) {
            int panel = out.isContiguous() ? Math.max(1, SCRATCH_ELEMENTS / Math.max(1, cols)) : 1;
            Tensor scratch = scope.newTensor(DType.F32, workers.count(), rows.scratchFloats(panel * cols) + TILE);
            workers.run((worker, count) -> {
                int to = Workers.from(out.rows(), 1, worker + 1, count);
                for (int r = Workers.from(out.rows(), 1, worker, count); r < to; r += panel) {
                    rows.decode(
                            out.rowAddress(r),
                            first + r,
                            0,
                            Math.min(panel, to - r) * cols,
                            scratch.rowAddress(worker));
                }
            });
        }
    }

    /** out[i] = w[ids[i]]. */
    void gather(Tensor out, long ids, Weight w) {
        WeightRows rows = rowsOf(w);
        try (Scope scope = scopes.newScope()) {
            Tensor scratch = scope.newTensor(DType.F32, 1, rows.scratchFloats(w.cols()) + TILE);
            for (int i = 0; i < out.rows(); i++) {
                rows.decode(out.rowAddress(i), CpuOps.intAt(ids, i), 0, w.cols(), scratch.address());
            }
        }
    }
}
