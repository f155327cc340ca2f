package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Dropout;
import org.qlora4j.nf4.device.HostElements;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * All operations in fp32: rows or elements dealt out to the workers, products by {@link Gemm}, attention by
 * {@link Attention}.
 */
final class CpuOps implements Ops {
    private static final MemorySegment ALL = HostMemory.ALL;

    /** Elements below which one thread does it alone: a hand-off costs as much as some 4,000 of them. */
    private static final long ALONE = 1 << 13;

    /** Elements of one partial sum of {@link #sumOfSquares}, whatever the number of workers. */
    private static final int SUM_CHUNK = 1 << 14;

    private final Workers workers;
    private final Kernels kernels;
    private final Gemm gemm;
    private final Attention attention;
    private final Optimizers optimizers;

    CpuOps(Workers workers, Kernels kernels, PooledScopes scopes, long[] tables, boolean byLibrary, boolean bf16) {
        this.workers = workers;
        this.kernels = kernels;
        this.gemm = new Gemm(workers, kernels, scopes, tables, byLibrary, bf16);
        this.attention = new Attention(workers, kernels, scopes);
        this.optimizers = new Optimizers(workers, kernels, scopes);
    }

    static int intAt(long address, int i) {
        return ALL.get(JAVA_INT_UNALIGNED, address + 4L * i);
    }

    /** Work on rows [from, to). */
    @FunctionalInterface
    private interface Rows {
        void run(int from, int to);
    }

    private void rows(Tensor t, Rows work) {
        if (t.numel() < ALONE) {
            work.run(0, t.rows());
        } else {
            workers.run((w, count) ->
                    work.run(Workers.from(t.rows(), 1, w, count), Workers.from(t.rows(), 1, w + 1, count)));
        }
    }

    /**
     * Work on pieces: whole rows of a matrix, or parts of the only row of a vector, each {@code (row, first column,
     * columns)}.
     */
    @FunctionalInterface
    private interface Piece {
        void run(int row, int col, int cols);
    }

    private void pieces(Tensor t, Piece work) {
        if (t.rows() > 1 || t.numel() < ALONE) {
            rows(t, (from, to) -> {
                for (int r = from; r < to; r++) {
                    work.run(r, 0, t.cols());
                }
            });
            return;
        }
        workers.run((w, count) -> {
            int from = Workers.from(t.cols(), 64, w, count);
            int to = Workers.from(t.cols(), 64, w + 1, count);
            if (to > from) {
                work.run(0, from, to - from);
            }
        });
    }

    /**
     * Work on all rows of {@code n} columns from {@code first}: sums over rows in their order, whatever the workers.
     */
    @FunctionalInterface
    private interface Columns {
        void run(int first, int n);
    }

    private void columns(Tensor t, Columns work) {
        if (t.numel() < ALONE) {
            work.run(0, t.cols());
            return;
        }
        workers.run((w, count) -> {
            int from = Workers.from(t.cols(), 64, w, count);
            work.run(from, Workers.from(t.cols(), 64, w + 1, count) - from);
        });
    }

    private static long at(Tensor t, int row, int col) {
        return t.rowAddress(row) + 4L * col;
    }

    @Override
    public void matmul(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, double alpha, double beta) {
        gemm.dense(out, a, transA, b, transB, (float) alpha, (float) beta);
    }

    @Override
    public void matmul(Tensor out, Tensor x, Weight w, boolean transW, double beta) {
        gemm.weight(out, x, w, transW, (float) beta);
    }

    @Override
    public void dequantize(Tensor out, Weight w) {
        gemm.dequantize(out, w);
    }

    @Override
    public void embedding(Tensor out, Tensor ids, Weight table) {
        gemm.gather(out, ids.address(), table);
    }

    @Override
    public void embeddingBackward(Tensor dTable, Tensor ids, Tensor dOut) {
        columns(dOut, (from, n) -> {
            for (int r = 0; r < dOut.rows(); r++) {
                kernels.axpby(at(dTable, intAt(ids.address(), r), from), 1, at(dOut, r, from), 1, n);
            }
        });
    }

    @Override
    public void gatherRows(Tensor out, Tensor x, Tensor rows) {
        for (int i = 0; i < out.rows(); i++) {
            MemorySegment.copy(ALL, x.rowAddress(intAt(rows.address(), i)), ALL, out.rowAddress(i), 4L * x.cols());
        }
    }

    @Override
    public void scatterRows(Tensor out, Tensor x, Tensor rows) {
        fill(out, 0);
        for (int i = 0; i < x.rows(); i++) {
            MemorySegment.copy(ALL, x.rowAddress(i), ALL, out.rowAddress(intAt(rows.address(), i)), 4L * x.cols());
        }
    }

    @Override
    public void rmsNorm(Tensor y, Tensor rstd, Tensor x, Tensor weight, double eps) {
        int n = x.cols();
        rows(x, (from, to) -> {
            for (int r = from; r < to; r++) {
                float mean = kernels.dot(x.rowAddress(r), x.rowAddress(r), n) / n;
                float s = (float) (1 / Math.sqrt(mean + eps));
                set(rstd.address() + 4L * r, s);
                kernels.scaledProduct(y.rowAddress(r), s, x.rowAddress(r), weight.address(), n);
            }
        });
    }

    @Override
    public void rmsNormBackward(Tensor dx, Tensor dy, Tensor x, Tensor rstd, Tensor weight, double beta) {
        int n = x.cols();
        rows(x, (from, to) -> {
            for (int r = from; r < to; r++) {
                float s = get(rstd.address() + 4L * r);
                // mean(g ⊙ x·s)·s: what rstd's own dependence on x contributes
                float c = kernels.dot3(dy.rowAddress(r), weight.address(), x.rowAddress(r), n) / n * s * s;
                kernels.rmsNormBackward(
                        dx.rowAddress(r), dy.rowAddress(r), x.rowAddress(r), weight.address(), s, c, (float) beta, n);
            }
        });
    }

    @Override
    public void rope(Tensor x, Tensor cos, Tensor sin, Tensor positions, int headDim, boolean inverse) {
        int heads = x.cols() / headDim;
        float sign = inverse ? -1 : 1;
        rows(x, (from, to) -> {
            for (int r = from; r < to; r++) {
                int p = intAt(positions.address(), r);
                for (int h = 0; h < heads; h++) {
                    kernels.rotate(at(x, r, h * headDim), cos.rowAddress(p), sin.rowAddress(p), sign, cos.cols());
                }
            }
        });
    }

    @Override
    public void attention(Tensor out, Tensor logSumExp, Tensor q, Tensor k, Tensor v, AttentionShape shape) {
        attention.forward(out, logSumExp, q, k, v, shape);
    }

    @Override
    public void attentionBackward(
            Tensor dq,
            Tensor dk,
            Tensor dv,
            Tensor dOut,
            Tensor out,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v,
            AttentionShape shape) {
        attention.backward(dq, dk, dv, dOut, out, logSumExp, q, k, v, shape);
    }

    @Override
    public void swiGlu(Tensor y, Tensor gate, Tensor up) {
        pieces(y, (r, c, n) -> kernels.swiGlu(at(y, r, c), at(gate, r, c), at(up, r, c), n));
    }

    @Override
    public void swiGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        pieces(
                dy,
                (r, c, n) -> kernels.swiGluBackward(
                        at(dGate, r, c), at(dUp, r, c), at(dy, r, c), at(gate, r, c), at(up, r, c), n));
    }

    @Override
    public void geGlu(Tensor y, Tensor gate, Tensor up) {
        pieces(y, (r, c, n) -> kernels.geGlu(at(y, r, c), at(gate, r, c), at(up, r, c), n));
    }

    @Override
    public void geGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        pieces(
                dy,
                (r, c, n) -> kernels.geGluBackward(
                        at(dGate, r, c), at(dUp, r, c), at(dy, r, c), at(gate, r, c), at(up, r, c), n));
    }

    @Override
    public void softcap(Tensor y, Tensor x, double cap) {
        pieces(y, (r, c, n) -> kernels.softcap(at(y, r, c), at(x, r, c), 1, (float) cap, n));
    }

    @Override
    public void softcapBackward(Tensor dx, Tensor dy, Tensor y, double cap) {
        pieces(dx, (r, c, n) -> kernels.softcapBackward(at(dx, r, c), at(dy, r, c), at(y, r, c), 1, (float) cap, n));
    }

    @Override
    public void copy(Tensor y, Tensor x) {
        if (x.dtype() == DType.F32 && y.dtype() == DType.F32) {
            pieces(y, (r, c, n) -> MemorySegment.copy(ALL, at(x, r, c), ALL, at(y, r, c), 4L * n));
            return;
        }
        pieces(y, (r, c, n) -> {
            long to = y.rowAddress(r) + (long) c * y.dtype().bytes();
            long from = x.rowAddress(r) + (long) c * x.dtype().bytes();
            if (x.dtype() == DType.BF16 && y.dtype() == DType.F32) {
                kernels.widenBf16(to, from, n);
            } else if (x.dtype() == DType.F32 && y.dtype() == DType.BF16) {
                kernels.narrowBf16(to, from, n);
            } else {
                for (int i = 0; i < n; i++) {
                    HostElements.set(y, r, c + i, HostElements.get(x, r, c + i));
                }
            }
        });
    }

    @Override
    public void add(Tensor y, Tensor x, double alpha) {
        pieces(y, (r, c, n) -> kernels.axpby(at(y, r, c), (float) alpha, at(x, r, c), 1, n));
    }

    @Override
    public void addBias(Tensor y, Tensor bias) {
        rows(y, (from, to) -> {
            for (int r = from; r < to; r++) {
                kernels.axpby(y.rowAddress(r), 1, bias.address(), 1, y.cols());
            }
        });
    }

    @Override
    public void scaleColumns(Tensor y, Tensor x, Tensor scale, double beta) {
        pieces(y, (r, c, n) -> kernels.productAdd(at(y, r, c), (float) beta, at(x, r, c), at(scale, 0, c), n));
    }

    @Override
    public void columnDots(Tensor out, Tensor a, Tensor b) {
        columns(a, (from, n) -> {
            for (int r = 0; r < a.rows(); r++) {
                kernels.productAdd(at(out, 0, from), 1, at(a, r, from), at(b, r, from), n);
            }
        });
    }

    @Override
    public void inverseRowNorms(Tensor out, Weight w, Tensor a, Tensor b, double scale) {
        gemm.inverseRowNorms(out, w, a, b, (float) scale);
    }

    @Override
    public void scaleRows(Tensor y, Tensor x, Tensor scale) {
        rows(y, (from, to) -> {
            for (int r = from; r < to; r++) {
                kernels.axpby(y.rowAddress(r), get(at(scale, 0, r)), x.rowAddress(r), 0, y.cols());
            }
        });
    }

    @Override
    public void rowDots(Tensor out, Tensor a, Tensor b) {
        rows(a, (from, to) -> {
            for (int r = from; r < to; r++) {
                set(at(out, 0, r), kernels.dot(a.rowAddress(r), b.rowAddress(r), a.cols()));
            }
        });
    }

    @Override
    public void topKSoftmax(Tensor weights, Tensor chosen, Tensor logits, boolean normalize) {
        rows(logits, (from, to) -> {
            for (int r = from; r < to; r++) {
                Routing.forward(kernels, weights, chosen, logits, r, normalize);
            }
        });
    }

    @Override
    public void topKSoftmaxBackward(
            Tensor dLogits, Tensor dWeights, Tensor weights, Tensor chosen, Tensor probabilities, boolean normalize) {
        rows(dLogits, (from, to) -> {
            for (int r = from; r < to; r++) {
                Routing.backward(kernels, dLogits, dWeights, weights, chosen, probabilities, r, normalize);
            }
        });
    }

    @Override
    public void fill(Tensor y, double value) {
        pieces(y, (r, c, n) -> {
            if (value == 0) {
                ALL.asSlice(at(y, r, c), 4L * n).fill((byte) 0);
                return;
            }
            for (int i = 0; i < n; i++) {
                set(at(y, r, c + i), (float) value);
            }
        });
    }

    @Override
    public void dropout(Tensor y, Tensor x, double p, long seed) {
        int threshold = Dropout.threshold(p);
        float keep = (float) (1 / (1 - p));
        pieces(
                y,
                (r, c, n) ->
                        kernels.dropout(at(y, r, c), at(x, r, c), keep, threshold, seed, (long) r * y.cols() + c, n));
    }

    @Override
    public void crossEntropy(
            Tensor losses, Tensor correct, Tensor logits, Tensor labels, double gradientScale, double smoothing) {
        CrossEntropy loss = new CrossEntropy(kernels, losses, correct, logits, labels, gradientScale, smoothing);
        rows(logits, (from, to) -> {
            for (int r = from; r < to; r++) {
                loss.row(r);
            }
        });
    }

    @Override
    public double sumOfSquares(Tensor x) {
        int perRow = (x.cols() + SUM_CHUNK - 1) / SUM_CHUNK;
        double[] parts = new double[Math.multiplyExact(x.rows(), perRow)];
        workers.run((w, count) -> {
            int to = Workers.from(parts.length, 1, w + 1, count);
            for (int i = Workers.from(parts.length, 1, w, count); i < to; i++) {
                int first = i % perRow * SUM_CHUNK;
                long from = at(x, i / perRow, first);
                int n = Math.min(SUM_CHUNK, x.cols() - first);
                parts[i] = kernels.sumOfSquares(from, n);
            }
        });
        double sum = 0;
        for (double part : parts) {
            sum += part;
        }
        return sum;
    }

    @Override
    public void optimizerStep(Tensor p, Tensor g, OptimizerState state, OptimizerStep step) {
        optimizers.step(p, g, state, step);
    }
}
