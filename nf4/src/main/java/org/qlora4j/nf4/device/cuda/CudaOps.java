package org.qlora4j.nf4.device.cuda;

import static org.qlora4j.nf4.device.cuda.CudaElements.isPrecise;

import java.util.Arrays;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.CuBlas;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Dropout;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** The operations on a GPU; arguments are checked by {@link org.qlora4j.nf4.device.CheckedOps}. */
final class CudaOps implements Ops, AutoCloseable {
    /** A block of the loss takes a whole row of logits. */
    private static final int LOSS_BLOCK = 1024;

    private static final int ROW_SHARED = 33 * Float.BYTES;
    private static final int DOUBLE_SHARED = 33 * Double.BYTES;

    /** Partial sums of squares: always as many for a shape, so that the same values give the same sum. */
    private static final int MOST_PARTIALS = 1024;

    private final CudaDevice device;
    private final PooledScopes scopes;
    private final Launches launches;
    private final CudaElements elements;
    private final CudaWeights weights;
    private final CudaProducts products;
    private final CudaOptimizers optimizers;
    private final CudaAttention attention;
    private final Scope offsetScope;
    private @Nullable Offsets queries;
    private @Nullable Offsets keys;

    /** A shape's offsets and where they are on the device. */
    private record Offsets(int[] values, Tensor onDevice) {}

    @SuppressWarnings("MustBeClosedChecker") // closed with this
    CudaOps(CudaDevice device, CudaContext context, PooledScopes scopes, Launcher launcher, CuBlas blas) {
        this.device = device;
        this.scopes = scopes;
        this.launches = new Launches(launcher, device.multiprocessors());
        this.elements = new CudaElements(launches);
        this.weights = new CudaWeights(launches);
        this.products = new CudaProducts(context, scopes, blas, weights, elements, device.stream());
        this.optimizers = new CudaOptimizers(device, context, scopes, elements);
        this.attention = new CudaAttention(launcher, device.multiprocessors());
        this.offsetScope = scopes.newScope();
    }

    @Override
    public void matmul(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, double alpha, double beta) {
        products.matmul(out, a, transA, b, transB, alpha, beta);
    }

    @Override
    public void matmul(Tensor out, Tensor x, Weight w, boolean transW, double beta) {
        products.matmul(out, x, w, transW, beta);
    }

    @Override
    public void dequantize(Tensor out, Weight w) {
        weights.dequantize(out, w);
    }

    @Override
    public void embedding(Tensor out, Tensor ids, Weight table) {
        weights.rows(out, table, ids.address());
    }

    @Override
    public void embeddingBackward(Tensor dTable, Tensor ids, Tensor dOut) {
        if (dOut.numel() == 0) {
            return;
        }
        launches.begin(isPrecise(dTable) ? CudaKernel.EMBEDDING_BACKWARD_F32 : CudaKernel.EMBEDDING_BACKWARD_BF16)
                .matrix(dTable)
                .pointer(ids)
                .matrix(dOut)
                .size(dOut);
        launches.run(dOut.rows(), (dOut.cols() + 2047) / 2048, 256, 1, 32);
    }

    @Override
    public void gatherRows(Tensor out, Tensor x, Tensor rows) {
        weights.copy(out, x, rows.address());
    }

    @Override
    public void scatterRows(Tensor out, Tensor x, Tensor rows) {
        fill(out, 0);
        if (x.numel() > 0) {
            launches.begin(isPrecise(out) ? CudaKernel.SCATTER_ROWS_32 : CudaKernel.SCATTER_ROWS_16)
                    .matrix(out)
                    .matrix(x)
                    .pointer(rows)
                    .size(x);
            launches.elementwise(x);
        }
    }

    @Override
    public void rmsNorm(Tensor y, Tensor rstd, Tensor x, Tensor weight, double eps) {
        if (x.numel() > 0) {
            launches.begin(CudaKernel.RMS_NORM)
                    .matrix(y)
                    .pointer(rstd)
                    .matrix(x)
                    .pointer(weight)
                    .size(x)
                    .f32((float) eps);
            launches.rows(x);
        }
    }

    @Override
    public void rmsNormBackward(Tensor dx, Tensor dy, Tensor x, Tensor rstd, Tensor weight, double beta) {
        if (x.numel() > 0) {
            launches.begin(CudaKernel.RMS_NORM_BACKWARD)
                    .matrix(dx)
                    .matrix(dy)
                    .matrix(x)
                    .pointer(rstd)
                    .pointer(weight)
                    .size(x)
                    .f32((float) beta);
            launches.rows(x);
        }
    }

    @Override
    public void rope(Tensor x, Tensor cos, Tensor sin, Tensor positions, int headDim, boolean inverse) {
        if (x.numel() == 0 || cos.cols() == 0) {
            return;
        }
        launches.begin(CudaKernel.ROPE)
                .matrix(x)
                .matrix(cos)
                .matrix(sin)
                .pointer(positions)
                .i32(x.rows())
                .i32(x.cols() / headDim)
                .i32(headDim)
                .i32(cos.cols())
                .i32(inverse ? 1 : 0);
        launches.elementwise(x);
    }

    @Override
    public void attention(Tensor out, Tensor logSumExp, Tensor q, Tensor k, Tensor v, AttentionShape shape) {
        long queryOffsets = queryOffsets(shape);
        long keyOffsets = keyOffsets(shape);
        try (Scope scratch = scopes.newScope()) {
            attention.forward(out, logSumExp, q, k, v, shape, queryOffsets, keyOffsets, scratch);
        }
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
        long queryOffsets = queryOffsets(shape);
        long keyOffsets = keyOffsets(shape);
        try (Scope scratch = scopes.newScope()) {
            attention.backward(dq, dk, dv, dOut, out, logSumExp, q, k, v, shape, queryOffsets, keyOffsets, scratch);
        }
    }

    private long queryOffsets(AttentionShape shape) {
        queries = onDevice(queries, shape.queryOffsets());
        return queries.onDevice.address();
    }

    private long keyOffsets(AttentionShape shape) {
        keys = onDevice(keys, shape.keyOffsets());
        return keys.onDevice.address();
    }

    /** All layers of a pass have the same offsets: they are uploaded once. */
    private Offsets onDevice(@Nullable Offsets known, int[] values) {
        if (known != null && Arrays.equals(known.values, values)) {
            return known;
        }
        Tensor room = known != null && known.onDevice.cols() >= values.length
                ? known.onDevice
                : offsetScope.newTensor(DType.I32, 1, Math.max(64, Integer.highestOneBit(values.length) * 2));
        device.upload(room.cols(0, values.length), values, 0);
        return new Offsets(values.clone(), room);
    }

    @Override
    public void swiGlu(Tensor y, Tensor gate, Tensor up) {
        gated(CudaKernel.SWIGLU, y, gate, up);
    }

    @Override
    public void swiGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        gatedBackward(CudaKernel.SWIGLU_BACKWARD, dGate, dUp, dy, gate, up);
    }

    @Override
    public void geGlu(Tensor y, Tensor gate, Tensor up) {
        gated(CudaKernel.GEGLU, y, gate, up);
    }

    @Override
    public void geGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        gatedBackward(CudaKernel.GEGLU_BACKWARD, dGate, dUp, dy, gate, up);
    }

    private void gated(CudaKernel kernel, Tensor y, Tensor gate, Tensor up) {
        if (y.numel() > 0) {
            launches.begin(kernel).matrix(y).matrix(gate).matrix(up).size(y);
            launches.elementwise(y);
        }
    }

    private void gatedBackward(CudaKernel kernel, Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        if (dy.numel() > 0) {
            launches.begin(kernel)
                    .matrix(dGate)
                    .matrix(dUp)
                    .matrix(dy)
                    .matrix(gate)
                    .matrix(up)
                    .size(dy);
            launches.elementwise(dy);
        }
    }

    @Override
    public void softcap(Tensor y, Tensor x, double cap) {
        if (y.numel() > 0) {
            launches.begin(CudaKernel.SOFTCAP).matrix(y).matrix(x).size(y).f32((float) cap);
            launches.elementwise(y);
        }
    }

    @Override
    public void softcapBackward(Tensor dx, Tensor dy, Tensor y, double cap) {
        if (y.numel() > 0) {
            launches.begin(CudaKernel.SOFTCAP_BACKWARD)
                    .matrix(dx)
                    .matrix(dy)
                    .matrix(y)
                    .size(y)
                    .f32((float) cap);
            launches.elementwise(y);
        }
    }

    @Override
    public void copy(Tensor y, Tensor x) {
        weights.copy(y, x, 0);
    }

    @Override
    public void add(Tensor y, Tensor x, double alpha) {
        elements.add(y, x, alpha);
    }

    @Override
    public void addBias(Tensor y, Tensor bias) {
        if (y.numel() > 0) {
            launches.begin(isPrecise(y) ? CudaKernel.ADD_BIAS_F32 : CudaKernel.ADD_BIAS_BF16)
                    .matrix(y)
                    .pointer(bias)
                    .size(y);
            launches.elementwise(y);
        }
    }

    @Override
    public void scaleColumns(Tensor y, Tensor x, Tensor scale, double beta) {
        if (y.numel() > 0) {
            launches.begin(isPrecise(y) ? CudaKernel.SCALE_COLUMNS_F32 : CudaKernel.SCALE_COLUMNS_BF16)
                    .matrix(y)
                    .matrix(x)
                    .pointer(scale)
                    .size(y)
                    .f32((float) beta);
            launches.elementwise(y);
        }
    }

    @Override
    public void columnDots(Tensor out, Tensor a, Tensor b) {
        if (a.numel() > 0) {
            launches.begin(CudaKernel.COLUMN_DOTS)
                    .pointer(out)
                    .matrix(a)
                    .matrix(b)
                    .size(a);
            launches.run((a.cols() + 63) / 64, 1, 8, 32, 8192);
        }
    }

    @Override
    public void inverseRowNorms(Tensor out, Weight w, Tensor a, Tensor b, double scale) {
        if (w.rows() == 0) {
            return;
        }
        try (Scope scratch = scopes.newScope()) {
            Tensor whole = scratch.newTensor(DType.F32, w.rows(), w.cols());
            weights.dequantize(whole, w);
            products.matmul(whole, b, false, a, false, scale, 1);
            launches.begin(CudaKernel.INVERSE_ROW_NORMS_F32)
                    .pointer(out)
                    .matrix(whole)
                    .size(whole);
            launches.rows(whole);
        }
    }

    @Override
    public void scaleRows(Tensor y, Tensor x, Tensor scale) {
        if (y.numel() > 0) {
            launches.begin(CudaKernel.SCALE_ROWS)
                    .matrix(y)
                    .matrix(x)
                    .pointer(scale)
                    .size(y);
            launches.elementwise(y);
        }
    }

    @Override
    public void rowDots(Tensor out, Tensor a, Tensor b) {
        if (a.rows() > 0) {
            launches.begin(CudaKernel.ROW_DOTS).pointer(out).matrix(a).matrix(b).size(a);
            launches.rows(a);
        }
    }

    @Override
    public void topKSoftmax(Tensor weightsOfChosen, Tensor chosen, Tensor logits, boolean normalize) {
        if (logits.numel() > 0) {
            launches.begin(CudaKernel.TOP_K_SOFTMAX)
                    .matrix(weightsOfChosen)
                    .pointer(chosen)
                    .matrix(logits)
                    .size(logits)
                    .i32(weightsOfChosen.cols())
                    .i32(normalize ? 1 : 0);
            launches.rows(logits);
        }
    }

    @Override
    public void topKSoftmaxBackward(
            Tensor dLogits,
            Tensor dWeights,
            Tensor weightsOfChosen,
            Tensor chosen,
            Tensor probabilities,
            boolean normalize) {
        if (dLogits.numel() > 0) {
            launches.begin(CudaKernel.TOP_K_SOFTMAX_BACKWARD)
                    .matrix(dLogits)
                    .matrix(dWeights)
                    .matrix(weightsOfChosen)
                    .pointer(chosen)
                    .matrix(probabilities)
                    .size(dLogits)
                    .i32(weightsOfChosen.cols())
                    .i32(normalize ? 1 : 0);
            launches.rows(dLogits);
        }
    }

    @Override
    public void fill(Tensor y, double value) {
        elements.fill(y, value);
    }

    @Override
    public void dropout(Tensor y, Tensor x, double p, long seed) {
        if (y.numel() > 0) {
            launches.begin(isPrecise(y) ? CudaKernel.DROPOUT_F32 : CudaKernel.DROPOUT_BF16)
                    .matrix(y)
                    .matrix(x)
                    .size(y)
                    .i64(seed)
                    .i32(Dropout.threshold(p))
                    .f32((float) (1 / (1 - p)));
            launches.elementwise(y);
        }
    }

    @Override
    public void crossEntropy(
            Tensor losses, Tensor correct, Tensor logits, Tensor labels, double gradientScale, double smoothing) {
        if (logits.numel() > 0) {
            launches.begin(CudaKernel.CROSS_ENTROPY)
                    .pointer(losses)
                    .pointer(correct)
                    .matrix(logits)
                    .pointer(labels)
                    .i32(logits.cols())
                    .f32((float) gradientScale)
                    .f32((float) smoothing);
            launches.run(logits.rows(), 1, LOSS_BLOCK, 1, ROW_SHARED);
        }
    }

    @Override
    public double sumOfSquares(Tensor x) {
        if (x.numel() == 0) {
            return 0;
        }
        long pieces = (long) x.rows() * ((x.cols() + 7) / 8);
        int partials = (int) Math.min((pieces + 255) / 256, MOST_PARTIALS);
        double[] sum = new double[1];
        try (Scope scratch = scopes.newScope()) {
            Tensor parts = scratch.newTensor(DType.F64, 1, partials);
            launches.begin(isPrecise(x) ? CudaKernel.SUM_OF_SQUARES_F32 : CudaKernel.SUM_OF_SQUARES_BF16)
                    .pointer(parts)
                    .matrix(x)
                    .size(x);
            launches.run(partials, 1, 256, 1, DOUBLE_SHARED);
            Tensor out = scratch.newTensor(DType.F64, 1, 1);
            launches.begin(CudaKernel.SUM_PARTIALS).pointer(out).pointer(parts).i32(partials);
            launches.run(1, 1, 256, 1, DOUBLE_SHARED);
            device.download(out, sum, 0);
        }
        return sum[0];
    }

    @Override
    public void optimizerStep(Tensor p, Tensor g, OptimizerState state, OptimizerStep step) {
        optimizers.step(p, g, state, step);
    }

    @Override
    public void close() {
        optimizers.close();
        products.close();
        offsetScope.close();
    }
}
