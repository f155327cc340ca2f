package org.qlora4j.nf4.device.cpu;

import org.qlora4j.bindings.OneDnn;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * Products with frozen weights on CPUs that multiply bf16 (twice as fast as fp32 on AVX-512 bf16): x and W are rounded
 * to bf16 as {@code bnb_4bit_compute_dtype bfloat16} does, sums and the result are fp32.
 */
final class Bf16Gemm {
    private static final int TILE = 16;

    /** Elements of a decoded panel: half of a 1 MiB level-2 cache. */
    static final int PANEL = 1 << 18;

    /** Elements of a weight decoded by all workers together: a part of the level-3 cache. */
    static final int CHUNK = 1 << 21;

    private final Workers workers;
    private final Kernels kernels;
    private final PooledScopes scopes;

    Bf16Gemm(Workers workers, Kernels kernels, PooledScopes scopes) {
        this.workers = workers;
        this.kernels = kernels;
        this.scopes = scopes;
    }

    /** {@code out = x·Wᵀ + beta·out}: each worker has its output columns, so that nothing is decoded twice. */
    void forward(Tensor out, Tensor x, Weight w, WeightRows rows, float beta) {
        int cols = w.cols();
        int panel = Math.max(TILE, PANEL / cols / TILE * TILE);
        boolean inPlace = isBf16(w);
        try (Scope scope = scopes.newScope()) {
            Tensor rounded = rounded(x, scope);
            Tensor panels = scope.newTensor(DType.BF16, workers.count(), inPlace ? 1 : Math.multiplyExact(panel, cols));
            Tensor scratch = scope.newTensor(DType.F32, workers.count(), rows.scratchFloatsBf16());
            workers.run((worker, count) -> {
                int from = Workers.from(w.rows(), TILE, worker, count);
                int to = Workers.from(w.rows(), TILE, worker + 1, count);
                for (int r = from; r < to; r += panel) {
                    int n = Math.min(panel, to - r);
                    long values = panels.rowAddress(worker);
                    long stride = cols;
                    if (w instanceof Weight.Dense d && inPlace) {
                        values = d.values().rowAddress(r);
                        stride = d.values().stride();
                    } else {
                        rows.decodeBf16(values, r, n * cols, scratch.rowAddress(worker));
                    }
                    OneDnn.gemmBf16(
                            false,
                            true,
                            rounded.rows(),
                            n,
                            cols,
                            1,
                            rounded.address(),
                            rounded.stride(),
                            values,
                            stride,
                            beta,
                            out.address() + 4L * r,
                            out.stride());
                }
            });
        }
    }

    /** {@code out = dy·W + beta·out}: all workers decode some 4 MiB of W, then share the product with it. */
    void backward(Tensor out, Tensor dy, Weight w, WeightRows rows, float beta) {
        int cols = w.cols();
        boolean inPlace = isBf16(w);
        int chunk = inPlace ? w.rows() : Math.min(w.rows(), Math.max(TILE, CHUNK / cols / TILE * TILE));
        try (Scope scope = scopes.newScope()) {
            Tensor rounded = rounded(dy, scope);
            Tensor decoded = scope.newTensor(DType.BF16, inPlace ? 1 : chunk, cols);
            Tensor scratch = scope.newTensor(DType.F32, workers.count(), rows.scratchFloatsBf16());
            for (int r = 0; r < w.rows(); r += chunk) {
                int first = r;
                int n = Math.min(chunk, w.rows() - r);
                Tensor values = w instanceof Weight.Dense d && inPlace ? d.values() : decoded;
                if (!inPlace) {
                    workers.run((worker, count) -> {
                        int from = Workers.from(n, 1, worker, count);
                        int to = Workers.from(n, 1, worker + 1, count);
                        if (from < to) {
                            rows.decodeBf16(
                                    decoded.rowAddress(from),
                                    first + from,
                                    (to - from) * cols,
                                    scratch.rowAddress(worker));
                        }
                    });
                }
                product(out, rounded.cols(r, n), values, r == 0 ? beta : 1);
            }
        }
    }

    /** out = a·b + beta·out, shared by rows or columns of out. */
    private void product(Tensor out, Tensor a, Tensor b, float beta) {
        boolean byRows = out.rows() >= out.cols();
        workers.run((worker, count) -> {
            int all = byRows ? out.rows() : out.cols();
            int from = Workers.from(all, TILE, worker, count);
            int n = Workers.from(all, TILE, worker + 1, count) - from;
            if (n == 0) {
                return;
            }
            OneDnn.gemmBf16(
                    false,
                    false,
                    byRows ? n : out.rows(),
                    byRows ? out.cols() : n,
                    a.cols(),
                    1,
                    a.address() + (byRows ? 2L * from * a.stride() : 0),
                    a.stride(),
                    b.address() + (byRows ? 0 : 2L * from),
                    b.stride(),
                    beta,
                    out.address() + 4L * from * (byRows ? out.stride() : 1),
                    out.stride());
        });
    }

    private static boolean isBf16(Weight w) {
        return w instanceof Weight.Dense d && d.values().dtype() == DType.BF16;
    }

    private Tensor rounded(Tensor x, Scope scope) {
        Tensor y = scope.newTensor(DType.BF16, x.rows(), x.cols());
        workers.run((worker, count) -> {
            int to = Workers.from(x.rows(), 1, worker + 1, count);
            for (int r = Workers.from(x.rows(), 1, worker, count); r < to; r++) {
                kernels.narrowBf16(y.rowAddress(r), x.rowAddress(r), x.cols());
            }
        });
        return y;
    }
}
