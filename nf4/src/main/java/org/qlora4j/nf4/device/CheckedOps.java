package org.qlora4j.nf4.device;

import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * Checks every argument of every operation before the device sees it: shapes, types, device, open scopes, overlap of
 * results with inputs, ranges of indices, and that one thread uses the device. Kernels work on raw addresses, so this
 * is what stands between a mistake and the end of the process; every device wraps its operations in it.
 *
 * <p>Mistakes in arguments are {@link ShapeException}, use after close and from another thread
 * {@link IllegalStateException}.
 */
public final class CheckedOps implements Ops {
    private final Ops ops;
    private final String deviceName;
    private final OpChecks check;
    private volatile @Nullable Thread owner;

    /**
     * @param ops the device's own operations
     * @param deviceName the device all tensors must be on
     * @param floatType type of all tensors called float in {@link Ops}
     * @param hostReadable whether tensors are in host memory, so that ids, labels, rows and positions can be checked as
     *     well
     */
    public CheckedOps(Ops ops, String deviceName, DType floatType, boolean hostReadable) {
        this.ops = ops;
        this.deviceName = deviceName;
        this.check = new OpChecks(deviceName, floatType, hostReadable);
    }

    /** Ends the current thread's ownership: the next thread that calls an operation becomes the owner. */
    public void handOver() {
        checkThread("handOver");
        owner = null;
    }

    /**
     * The first thread that calls becomes the owner.
     *
     * @param what the call to name in the message
     * @throws IllegalStateException if another thread is the owner
     */
    public void checkThread(String what) {
        Thread current = Thread.currentThread();
        Thread known = owner;
        if (known == null) {
            owner = current;
        } else if (known != current) {
            throw new IllegalStateException(deviceName + ": " + what + " was called by thread '" + current.getName()
                    + "', but the device belongs to thread '" + known.getName() + "' until that one hands it over");
        }
    }

    @Override
    public void matmul(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, double alpha, double beta) {
        String op = "matmul";
        checkThread(op);
        check.either(op, "out", out);
        check.either(op, "a", a);
        check.either(op, "b", b);
        int m = transA ? a.cols() : a.rows();
        int ka = transA ? a.rows() : a.cols();
        int kb = transB ? b.cols() : b.rows();
        int n = transB ? b.rows() : b.cols();
        if (ka != kb) {
            throw new ShapeException(
                    op + ": inner sizes differ: a " + a + (transA ? "ᵀ" : "") + ", b " + b + (transB ? "ᵀ" : ""));
        }
        check.shape(op, "out", out, m, n);
        check.apart(op, "out", out, "a", a);
        check.apart(op, "out", out, "b", b);
        ops.matmul(out, a, transA, b, transB, alpha, beta);
    }

    @Override
    public void matmul(Tensor out, Tensor x, Weight w, boolean transW, double beta) {
        String op = transW ? "matmul x·Wᵀ" : "matmul x·W";
        checkThread(op);
        check.weight(op, "w", w);
        check.either(op, "x", x, x.rows(), transW ? w.cols() : w.rows());
        check.either(op, "out", out, x.rows(), transW ? w.rows() : w.cols());
        check.apart(op, "out", out, "x", x);
        check.apart(op, "out", out, "w", w);
        ops.matmul(out, x, w, transW, beta);
    }

    @Override
    public void dequantize(Tensor out, Weight w) {
        String op = "dequantize";
        checkThread(op);
        check.weight(op, "w", w);
        check.either(op, "out", out, w.rows(), w.cols());
        check.apart(op, "out", out, "w", w);
        ops.dequantize(out, w);
    }

    @Override
    public void embedding(Tensor out, Tensor ids, Weight table) {
        String op = "embedding";
        checkThread(op);
        check.weight(op, "table", table);
        check.either(op, "out", out, out.rows(), table.cols());
        check.indices(op, "ids", ids, out.rows(), table.rows(), "rows of the table");
        check.apart(op, "out", out, "ids", ids);
        check.apart(op, "out", out, "table", table);
        ops.embedding(out, ids, table);
    }

    @Override
    public void embeddingBackward(Tensor dTable, Tensor ids, Tensor dOut) {
        String op = "embeddingBackward";
        checkThread(op);
        check.either(op, "dTable", dTable);
        check.floats(op, "dOut", dOut, dOut.rows(), dTable.cols());
        check.indices(op, "ids", ids, dOut.rows(), dTable.rows(), "rows of dTable");
        check.apart(op, "dTable", dTable, "ids", ids);
        check.apart(op, "dTable", dTable, "dOut", dOut);
        ops.embeddingBackward(dTable, ids, dOut);
    }

    @Override
    public void gatherRows(Tensor out, Tensor x, Tensor rows) {
        String op = "gatherRows";
        checkThread(op);
        check.either(op, "x", x);
        check.either(op, "out", out, out.rows(), x.cols());
        check.sameType(op, "out", out, "x", x);
        check.indices(op, "rows", rows, out.rows(), x.rows(), "rows of x");
        check.apart(op, "out", out, "x", x);
        check.apart(op, "out", out, "rows", rows);
        ops.gatherRows(out, x, rows);
    }

    @Override
    public void scatterRows(Tensor out, Tensor x, Tensor rows) {
        String op = "scatterRows";
        checkThread(op);
        check.either(op, "x", x);
        check.either(op, "out", out, out.rows(), x.cols());
        check.sameType(op, "out", out, "x", x);
        check.indices(op, "rows", rows, x.rows(), out.rows(), "rows of out");
        check.distinct(op, "rows", rows, out.rows());
        check.apart(op, "out", out, "x", x);
        check.apart(op, "out", out, "rows", rows);
        ops.scatterRows(out, x, rows);
    }

    @Override
    public void rmsNorm(Tensor y, Tensor rstd, Tensor x, Tensor weight, double eps) {
        String op = "rmsNorm";
        checkThread(op);
        check.floats(op, "x", x);
        check.floats(op, "y", y, x.rows(), x.cols());
        check.precise(op, "rstd", rstd, 1, x.rows());
        check.precise(op, "weight", weight, 1, x.cols());
        check.require(eps >= 0, op, "eps must be at least 0", eps);
        check.sameOrApart(op, "y", y, "x", x);
        check.apart(op, "y", y, "weight", weight);
        check.apart(op, "rstd", rstd, "y", y);
        check.apart(op, "rstd", rstd, "x", x);
        check.apart(op, "rstd", rstd, "weight", weight);
        ops.rmsNorm(y, rstd, x, weight, eps);
    }

    @Override
    public void rmsNormBackward(Tensor dx, Tensor dy, Tensor x, Tensor rstd, Tensor weight, double beta) {
        String op = "rmsNormBackward";
        checkThread(op);
        check.floats(op, "x", x);
        check.floats(op, "dx", dx, x.rows(), x.cols());
        check.floats(op, "dy", dy, x.rows(), x.cols());
        check.precise(op, "rstd", rstd, 1, x.rows());
        check.precise(op, "weight", weight, 1, x.cols());
        check.apart(op, "dx", dx, "dy", dy);
        check.apart(op, "dx", dx, "x", x);
        check.apart(op, "dx", dx, "rstd", rstd);
        check.apart(op, "dx", dx, "weight", weight);
        ops.rmsNormBackward(dx, dy, x, rstd, weight, beta);
    }

    @Override
    public void rope(Tensor x, Tensor cos, Tensor sin, Tensor positions, int headDim, boolean inverse) {
        String op = "rope";
        checkThread(op);
        check.floats(op, "x", x);
        if (headDim < 2 || x.cols() % headDim != 0) {
            throw new ShapeException(op + ": x must be [N, heads · headDim], got headDim " + headDim + " and " + x);
        }
        check.precise(op, "cos", cos, cos.rows(), cos.cols());
        if (2L * cos.cols() > headDim) {
            throw new ShapeException(
                    op + ": cos must have at most headDim/2 columns, got headDim " + headDim + " and " + cos);
        }
        check.precise(op, "sin", sin, cos.rows(), cos.cols());
        check.indices(op, "positions", positions, x.rows(), cos.rows(), "rows of cos");
        check.apart(op, "x", x, "cos", cos);
        check.apart(op, "x", x, "sin", sin);
        check.apart(op, "x", x, "positions", positions);
        ops.rope(x, cos, sin, positions, headDim, inverse);
    }

    @Override
    public void attention(Tensor out, Tensor logSumExp, Tensor q, Tensor k, Tensor v, AttentionShape shape) {
        String op = "attention";
        checkThread(op);
        attentionShapes(op, out, logSumExp, q, k, v, shape);
        check.apart(op, "out", out, "q", q);
        check.apart(op, "out", out, "k", k);
        check.apart(op, "out", out, "v", v);
        check.apart(op, "logSumExp", logSumExp, "out", out);
        check.apart(op, "logSumExp", logSumExp, "q", q);
        check.apart(op, "logSumExp", logSumExp, "k", k);
        check.apart(op, "logSumExp", logSumExp, "v", v);
        ops.attention(out, logSumExp, q, k, v, shape);
    }

    private void attentionShapes(
            String op, Tensor out, Tensor logSumExp, Tensor q, Tensor k, Tensor v, AttentionShape shape) {
        long width = (long) shape.numHeads() * shape.headDim();
        long kvWidth = (long) shape.numKvHeads() * shape.headDim();
        check.floats(op, "q", q, shape.queries(), width);
        check.floats(op, "k", k, shape.keys(), kvWidth);
        check.floats(op, "v", v, shape.keys(), kvWidth);
        check.floats(op, "out", out, shape.queries(), width);
        check.precise(op, "logSumExp", logSumExp, shape.numHeads(), shape.queries());
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
        String op = "attentionBackward";
        checkThread(op);
        if (shape.queries() != shape.keys()) {
            throw new ShapeException(
                    op + ": queries and keys must be equally many, got " + shape.queries() + " and " + shape.keys());
        }
        attentionShapes(op, out, logSumExp, q, k, v, shape);
        check.floats(op, "dOut", dOut, q.rows(), q.cols());
        check.floats(op, "dq", dq, q.rows(), q.cols());
        check.floats(op, "dk", dk, k.rows(), k.cols());
        check.floats(op, "dv", dv, v.rows(), v.cols());
        attentionInputsApart(op, "dq", dq, dOut, out, logSumExp, q, k, v);
        attentionInputsApart(op, "dk", dk, dOut, out, logSumExp, q, k, v);
        attentionInputsApart(op, "dv", dv, dOut, out, logSumExp, q, k, v);
        check.apart(op, "dq", dq, "dk", dk);
        check.apart(op, "dq", dq, "dv", dv);
        check.apart(op, "dk", dk, "dv", dv);
        ops.attentionBackward(dq, dk, dv, dOut, out, logSumExp, q, k, v, shape);
    }

    private void attentionInputsApart(
            String op,
            String name,
            Tensor result,
            Tensor dOut,
            Tensor out,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v) {
        check.apart(op, name, result, "dOut", dOut);
        check.apart(op, name, result, "out", out);
        check.apart(op, name, result, "logSumExp", logSumExp);
        check.apart(op, name, result, "q", q);
        check.apart(op, name, result, "k", k);
        check.apart(op, name, result, "v", v);
    }

    @Override
    public void swiGlu(Tensor y, Tensor gate, Tensor up) {
        checkThread("swiGlu");
        gated("swiGlu", y, gate, up);
        ops.swiGlu(y, gate, up);
    }

    @Override
    public void swiGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        checkThread("swiGluBackward");
        gatedBackward("swiGluBackward", dGate, dUp, dy, gate, up);
        ops.swiGluBackward(dGate, dUp, dy, gate, up);
    }

    @Override
    public void geGlu(Tensor y, Tensor gate, Tensor up) {
        checkThread("geGlu");
        gated("geGlu", y, gate, up);
        ops.geGlu(y, gate, up);
    }

    @Override
    public void geGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        checkThread("geGluBackward");
        gatedBackward("geGluBackward", dGate, dUp, dy, gate, up);
        ops.geGluBackward(dGate, dUp, dy, gate, up);
    }

    private void gated(String op, Tensor y, Tensor gate, Tensor up) {
        check.floats(op, "y", y);
        check.floats(op, "gate", gate, y.rows(), y.cols());
        check.floats(op, "up", up, y.rows(), y.cols());
        check.sameOrApart(op, "y", y, "gate", gate);
        check.sameOrApart(op, "y", y, "up", up);
    }

    private void gatedBackward(String op, Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        check.floats(op, "dy", dy);
        check.floats(op, "dGate", dGate, dy.rows(), dy.cols());
        check.floats(op, "dUp", dUp, dy.rows(), dy.cols());
        check.floats(op, "gate", gate, dy.rows(), dy.cols());
        check.floats(op, "up", up, dy.rows(), dy.cols());
        check.sameOrApart(op, "dGate", dGate, "gate", gate);
        check.sameOrApart(op, "dGate", dGate, "dy", dy);
        check.sameOrApart(op, "dUp", dUp, "up", up);
        check.apart(op, "dGate", dGate, "up", up);
        check.apart(op, "dUp", dUp, "gate", gate);
        check.apart(op, "dUp", dUp, "dy", dy);
        check.apart(op, "dUp", dUp, "dGate", dGate);
    }

    @Override
    public void softcap(Tensor y, Tensor x, double cap) {
        String op = "softcap";
        checkThread(op);
        check.floats(op, "y", y);
        check.floats(op, "x", x, y.rows(), y.cols());
        check.require(cap > 0, op, "cap must be above 0", cap);
        check.sameOrApart(op, "y", y, "x", x);
        ops.softcap(y, x, cap);
    }

    @Override
    public void softcapBackward(Tensor dx, Tensor dy, Tensor y, double cap) {
        String op = "softcapBackward";
        checkThread(op);
        check.floats(op, "dx", dx);
        check.floats(op, "dy", dy, dx.rows(), dx.cols());
        check.floats(op, "y", y, dx.rows(), dx.cols());
        check.require(cap > 0, op, "cap must be above 0", cap);
        check.sameOrApart(op, "dx", dx, "dy", dy);
        check.apart(op, "dx", dx, "y", y);
        ops.softcapBackward(dx, dy, y, cap);
    }

    @Override
    public void copy(Tensor y, Tensor x) {
        String op = "copy";
        checkThread(op);
        check.anyFloats(op, "y", y);
        check.anyFloats(op, "x", x);
        check.shape(op, "x", x, y.rows(), y.cols());
        check.apart(op, "y", y, "x", x);
        ops.copy(y, x);
    }

    @Override
    public void add(Tensor y, Tensor x, double alpha) {
        String op = "add";
        checkThread(op);
        check.either(op, "y", y);
        check.either(op, "x", x, y.rows(), y.cols());
        check.apart(op, "y", y, "x", x);
        ops.add(y, x, alpha);
    }

    @Override
    public void addBias(Tensor y, Tensor bias) {
        String op = "addBias";
        checkThread(op);
        check.either(op, "y", y);
        check.precise(op, "bias", bias, 1, y.cols());
        check.apart(op, "y", y, "bias", bias);
        ops.addBias(y, bias);
    }

    @Override
    public void scaleColumns(Tensor y, Tensor x, Tensor scale, double beta) {
        String op = "scaleColumns";
        checkThread(op);
        check.either(op, "y", y);
        check.either(op, "x", x, y.rows(), y.cols());
        check.precise(op, "scale", scale, 1, y.cols());
        check.sameType(op, "y", y, "x", x);
        check.sameOrApart(op, "y", y, "x", x);
        check.apart(op, "y", y, "scale", scale);
        ops.scaleColumns(y, x, scale, beta);
    }

    @Override
    public void columnDots(Tensor out, Tensor a, Tensor b) {
        String op = "columnDots";
        checkThread(op);
        check.floats(op, "a", a);
        check.floats(op, "b", b, a.rows(), a.cols());
        check.precise(op, "out", out, 1, a.cols());
        check.apart(op, "out", out, "a", a);
        check.apart(op, "out", out, "b", b);
        ops.columnDots(out, a, b);
    }

    @Override
    public void inverseRowNorms(Tensor out, Weight w, Tensor a, Tensor b, double scale) {
        String op = "inverseRowNorms";
        checkThread(op);
        check.weight(op, "w", w);
        check.precise(op, "a", a, a.rows(), w.cols());
        check.require(a.rows() > 0, op, "a must have at least one row", a.rows());
        check.precise(op, "b", b, w.rows(), a.rows());
        check.precise(op, "out", out, 1, w.rows());
        check.apart(op, "out", out, "w", w);
        check.apart(op, "out", out, "a", a);
        check.apart(op, "out", out, "b", b);
        ops.inverseRowNorms(out, w, a, b, scale);
    }

    @Override
    public void scaleRows(Tensor y, Tensor x, Tensor scale) {
        String op = "scaleRows";
        checkThread(op);
        check.floats(op, "y", y);
        check.floats(op, "x", x, y.rows(), y.cols());
        check.precise(op, "scale", scale, 1, y.rows());
        check.sameOrApart(op, "y", y, "x", x);
        check.apart(op, "y", y, "scale", scale);
        ops.scaleRows(y, x, scale);
    }

    @Override
    public void rowDots(Tensor out, Tensor a, Tensor b) {
        String op = "rowDots";
        checkThread(op);
        check.floats(op, "a", a);
        check.floats(op, "b", b, a.rows(), a.cols());
        check.precise(op, "out", out, 1, a.rows());
        check.apart(op, "out", out, "a", a);
        check.apart(op, "out", out, "b", b);
        ops.rowDots(out, a, b);
    }

    @Override
    public void topKSoftmax(Tensor weights, Tensor chosen, Tensor logits, boolean normalize) {
        String op = "topKSoftmax";
        checkThread(op);
        check.precise(op, "logits", logits, logits.rows(), logits.cols());
        check.precise(op, "weights", weights, logits.rows(), weights.cols());
        check.require(weights.cols() <= logits.cols(), op, "k must be at most " + logits.cols(), weights.cols());
        check.ints(op, "chosen", chosen, weights.numel());
        check.apart(op, "weights", weights, "chosen", chosen);
        check.apart(op, "weights", weights, "logits", logits);
        check.apart(op, "chosen", chosen, "logits", logits);
        ops.topKSoftmax(weights, chosen, logits, normalize);
    }

    @Override
    public void topKSoftmaxBackward(
            Tensor dLogits, Tensor dWeights, Tensor weights, Tensor chosen, Tensor probabilities, boolean normalize) {
        String op = "topKSoftmaxBackward";
        checkThread(op);
        check.precise(op, "probabilities", probabilities, probabilities.rows(), probabilities.cols());
        check.precise(op, "dLogits", dLogits, probabilities.rows(), probabilities.cols());
        check.precise(op, "weights", weights, probabilities.rows(), weights.cols());
        check.precise(op, "dWeights", dWeights, weights.rows(), weights.cols());
        check.ints(op, "chosen", chosen, weights.numel());
        check.indices(op, "chosen", chosen, chosen.cols(), probabilities.cols(), "columns of probabilities");
        check.sameOrApart(op, "dLogits", dLogits, "probabilities", probabilities);
        check.apart(op, "dLogits", dLogits, "dWeights", dWeights);
        check.apart(op, "dLogits", dLogits, "weights", weights);
        check.apart(op, "dLogits", dLogits, "chosen", chosen);
        ops.topKSoftmaxBackward(dLogits, dWeights, weights, chosen, probabilities, normalize);
    }

    @Override
    public void fill(Tensor y, double value) {
        String op = "fill";
        checkThread(op);
        check.either(op, "y", y);
        ops.fill(y, value);
    }

    @Override
    public void dropout(Tensor y, Tensor x, double p, long seed) {
        String op = "dropout";
        checkThread(op);
        check.either(op, "x", x);
        check.either(op, "y", y, x.rows(), x.cols());
        check.sameType(op, "y", y, "x", x);
        check.require(p >= 0 && p < 1, op, "p must be in [0, 1)", p);
        check.sameOrApart(op, "y", y, "x", x);
        ops.dropout(y, x, p, seed);
    }

    @Override
    public void crossEntropy(
            Tensor losses, Tensor correct, Tensor logits, Tensor labels, double gradientScale, double smoothing) {
        String op = "crossEntropy";
        checkThread(op);
        check.floats(op, "logits", logits);
        check.precise(op, "losses", losses, 1, logits.rows());
        check.precise(op, "correct", correct, 1, logits.rows());
        check.indices(op, "labels", labels, logits.rows(), logits.cols(), "vocabulary");
        check.apart(op, "losses", losses, "logits", logits);
        check.apart(op, "losses", losses, "labels", labels);
        check.apart(op, "correct", correct, "losses", losses);
        check.apart(op, "correct", correct, "logits", logits);
        check.apart(op, "correct", correct, "labels", labels);
        check.require(smoothing >= 0 && smoothing < 1, op, "smoothing must be in [0, 1)", smoothing);
        check.apart(op, "logits", logits, "labels", labels);
        ops.crossEntropy(losses, correct, logits, labels, gradientScale, smoothing);
    }

    @Override
    public double sumOfSquares(Tensor x) {
        String op = "sumOfSquares";
        checkThread(op);
        check.either(op, "x", x);
        return ops.sumOfSquares(x);
    }

    @Override
    public void optimizerStep(Tensor p, Tensor g, OptimizerState state, OptimizerStep step) {
        String op = "optimizerStep";
        checkThread(op);
        int n = p.cols();
        check.precise(op, "p", p, 1, n);
        check.precise(op, "g", g, 1, n);
        check.apart(op, "p", p, "g", g);
        check.state(op, state, step.rule(), n);
        for (Tensor part : List.of(state.state1(), state.state2())) {
            check.apart(op, "state", part, "p", p);
            check.apart(op, "state", part, "g", g);
        }
        check.apart(op, "state1", state.state1(), "state2", state.state2());
        check.require(step.step() >= 1, op, "step must be at least 1", step.step());
        check.require(Double.isFinite(step.learningRate()), op, "learningRate must be finite", step.learningRate());
        check.require(Double.isFinite(step.gradientScale()), op, "gradientScale must be finite", step.gradientScale());
        ops.optimizerStep(p, g, state, step);
    }
}
