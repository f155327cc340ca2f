package org.qlora4j.nf4.device.cpu;

import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import org.qlora4j.bindings.OneDnn;
import org.qlora4j.nf4.device.HostScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** Matrix products: oneDNN's sgemm on each worker's share, frozen weights decoded panel by panel. */
final class Gemm {
    /** Products below this many multiply-adds are not worth waking a worker. */
    private static final long ALONE = 1 << 17;

    /** Floats in a decoded panel: half of a 1 MiB level-2 cache. */
    private static final int PANEL_FLOATS = 1 << 17;

    private static final int TILE = 16;

    private final Workers workers;
    private final Kernels kernels;
    private final HostScopes scopes;
    private final long[] tables;

    Gemm(Workers workers, Kernels kernels, HostScopes scopes, long[] tables) {
        this.workers = workers;
        this.kernels = kernels;
        this.scopes = scopes;
        this.tables = tables;
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
            OneDnn.sgemm(transA, transB, rows, cols, k, alpha, aAt, a.stride(), bAt, b.stride(), beta, cAt, out.stride());
        };
        if ((long) m * n * k < ALONE) {
            workers.runAlone(task);
        } else {
            workers.run(task);
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
        WeightRows rows = new WeightRows(kernels, w, tables);
        if (w instanceof Weight.Dense d && rows.inPlace() && !(transW && x.rows() <= 4)) {
            dense(out, x, false, d.values(), transW, 1, beta);
        } else if (transW && x.rows() <= 4 && rows.hasDirectDot()) {
            vectorProduct(out, x, w, rows, beta);
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
                            false, true, x.rows(), n, cols, 1, x.address(), x.stride(), buffer, cols, beta, out.address() + 4L * r, out.stride());
                }
            });
        }
    }

    /** dx = dy·W: each worker has rows of dx and decodes all of W, or, when rows are few, columns of dx and decodes those. */
    private void backward(Tensor out, Tensor dy, Weight w, WeightRows rows, float beta) {
        int cols = w.cols();
        int n = dy.rows();
        boolean byRows = n >= 64 * workers.count() || workers.count() == 1;
        int panel = Math.max(TILE, PANEL_FLOATS / cols / TILE * TILE);
        try (Scope scope = scopes.newScope()) {
            Tensor buffers = scope.newTensor(DType.F32, workers.count(), bufferFloats(panel, cols, rows));
            workers.run((worker, count) -> {
                long buffer = buffers.rowAddress(worker);
                long scratch = buffer + 4L * panel * cols;
                int from = Workers.from(byRows ? n : cols, byRows ? TILE : 64, worker, count);
                int to = Workers.from(byRows ? n : cols, byRows ? TILE : 64, worker + 1, count);
                if (from == to) {
                    return;
                }
                int width = byRows ? cols : to - from;
                for (int r = 0; r < w.rows(); r += panel) {
                    int k = Math.min(panel, w.rows() - r);
                    if (byRows) {
                        rows.decode(buffer, r, 0, k * cols, scratch);
                    } else {
                        for (int i = 0; i < k; i++) {
                            rows.decode(buffer + 4L * i * width, r + i, from, width, scratch);
                        }
                    }
                    long dyAt = dy.address() + 4L * r + (byRows ? 4L * from * dy.stride() : 0);
                    long outAt = out.address() + 4L * from * (byRows ? out.stride() : 1);
                    OneDnn.sgemm(
                            false, false, byRows ? to - from : n, width, k, 1, dyAt, dy.stride(), buffer, width, r == 0 ? beta : 1, outAt, out.stride());
                }
            });
        }
    }

    private static int bufferFloats(int panel, int cols, WeightRows rows) {
        return Math.addExact(Math.multiplyExact(panel, cols), rows.scratchFloats(panel * cols)) + TILE;
    }

    /** A few rows of x: dot products straight from the stored weights, which are read once. */
    private void vectorProduct(Tensor out, Tensor x, Weight w, WeightRows rows, float beta) {
        int cols = w.cols();
        try (Scope scope = scopes.newScope()) {
            Tensor inputs = rows.wantsPermuted() ? scope.newTensor(DType.F32, x.rows(), cols) : x;
            if (rows.wantsPermuted()) {
                for (int i = 0; i < x.rows(); i++) {
                    kernels.permute(inputs.rowAddress(i), x.rowAddress(i), cols);
                }
            }
            Tensor scratch = scope.newTensor(DType.F32, workers.count(), rows.scratchFloats(cols) + TILE);
            workers.run((worker, count) -> {
                int to = Workers.from(w.rows(), TILE, worker + 1, count);
                for (int r = Workers.from(w.rows(), TILE, worker, count); r < to; r++) {
                    long absmax = 0;
                    if (w instanceof Weight.Quantized q) {
                        int blocks = cols / q.blockSize();
                        absmax = WeightRows.absmax(q, (long) r * blocks, blocks, scratch.rowAddress(worker));
                    }
                    for (int i = 0; i < inputs.rows(); i++) {
                        float v = rows.dot(r, inputs.rowAddress(i), absmax);
                        long at = out.rowAddress(i) + 4L * r;
                        set(at, beta == 0 ? v : Math.fma(beta, get(at), v));
                    }
                }
            });
        }
    }

    void dequantize(Tensor out, Weight w) {
        WeightRows rows = new WeightRows(kernels, w, tables);
        try (Scope scope = scopes.newScope()) {
            Tensor scratch = scope.newTensor(DType.F32, workers.count(), rows.scratchFloats(w.cols()) + TILE);
            workers.run((worker, count) -> {
                int to = Workers.from(w.rows(), 1, worker + 1, count);
                for (int r = Workers.from(w.rows(), 1, worker, count); r < to; r++) {
                    rows.decode(out.rowAddress(r), r, 0, w.cols(), scratch.rowAddress(worker));
                }
            });
        }
    }

    /** out[i] = w[ids[i]]. */
    void gather(Tensor out, long ids, Weight w) {
        WeightRows rows = new WeightRows(kernels, w, tables);
        try (Scope scope = scopes.newScope()) {
            Tensor scratch = scope.newTensor(DType.F32, 1, rows.scratchFloats(w.cols()) + TILE);
            for (int i = 0; i < out.rows(); i++) {
                rows.decode(out.rowAddress(i), CpuOps.intAt(ids, i), 0, w.cols(), scratch.address());
            }
        }
    }
}
