package org.qlora4j.lora.model;

import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The attention half of a layer: {@code y = x + norm(o_proj(attention(rope(norm(q)), rope(norm(k)), v)))} with
 * {@code q, k, v} the projections of {@code norm(x)}. Which of the norms exist, and whether there is a rotation, is the
 * family's choice.
 */
final class AttentionBlock {
    private final ModelConfig config;
    private final int slidingWindow;
    private final Norm inputNorm;
    final Projection qkv;
    private final Norm qNorm;
    private final Norm kNorm;
    private final @Nullable Rotary rotary;
    final ResidualOutput output;

    /**
     * @param slidingWindow keys a query sees, 0 for all before it
     * @param rotary null in a layer without position embedding
     */
    AttentionBlock(
            ModelConfig config,
            int slidingWindow,
            Norm inputNorm,
            Projection qkv,
            Norm qNorm,
            Norm kNorm,
            @Nullable Rotary rotary,
            ResidualOutput output) {
        this.config = config;
        this.slidingWindow = slidingWindow;
        this.inputNorm = inputNorm;
        this.qkv = qkv;
        this.qNorm = qNorm;
        this.kNorm = kNorm;
        this.rotary = rotary;
        this.output = output;
    }

    /** What backward needs. */
    record Saved(
            Norm.Saved input,
            Projection.Saved qkv,
            Norm.Saved q,
            Norm.Saved k,
            Tensor heads,
            Tensor logSumExp,
            AttentionShape shape,
            ResidualOutput.Saved output) {
        private Tensor values() {
            return qkv.product(2);
        }
    }

    /**
     * Forward.
     *
     * @param y result [N, C], not x
     * @param x [N, C]
     * @param caches of each sequence: keys and values of earlier tokens, to which this pass's are added; null in
     *     training
     */
    Saved forward(Tensor y, Tensor x, Sequences sequences, @Nullable List<KvCache.Layer> caches, Step step) {
        int n = x.rows();
        Norm.Saved input = inputNorm.forward(x, step);
        Projection.Saved projected = qkv.forward(input.y(), step);
        Norm.Saved q = qNorm.forward(projected.product(0), step);
        Norm.Saved k = kNorm.forward(projected.product(1), step);
        rotate(q.y(), k.y(), sequences, false, step);

        AttentionShape shape = shape(sequences.offsets(), sequences.offsets());
        Tensor heads = step.newTensor(n, config.queryWidth());
        Tensor logSumExp = step.newPrecise(config.numHeads(), n);
        Tensor values = projected.product(2);
        if (caches == null) {
            step.ops().attention(heads, logSumExp, q.y(), k.y(), values, shape);
        } else {
            cachedAttention(heads, logSumExp, q.y(), k.y(), values, sequences, caches, step);
        }
        return new Saved(input, projected, q, k, heads, logSumExp, shape, output.forward(y, x, heads, step));
    }

    /** One sequence after the other, each over its own cache. */
    private void cachedAttention(
            Tensor heads,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v,
            Sequences sequences,
            List<KvCache.Layer> caches,
            Step step) {
        for (int s = 0; s < caches.size(); s++) {
            int first = sequences.offsets()[s];
            int n = sequences.offsets()[s + 1] - first;
            KvCache.Layer cache = caches.get(s);
            cache.append(k.rows(first, n), v.rows(first, n), step.ops());
            Tensor keys = cache.keys();
            step.ops()
                    .attention(
                            heads.rows(first, n),
                            logSumExp.cols(first, n),
                            q.rows(first, n),
                            keys,
                            cache.values(),
                            shape(new int[] {0, n}, new int[] {0, keys.rows()}));
        }
    }

    private AttentionShape shape(int[] queryOffsets, int[] keyOffsets) {
        return new AttentionShape(
                config.numHeads(),
                config.numKvHeads(),
                config.headDim(),
                config.attentionScale(),
                slidingWindow,
                config.attentionSoftcap(),
                queryOffsets,
                keyOffsets);
    }

    private void rotate(Tensor q, Tensor k, Sequences sequences, boolean inverse, Step step) {
        if (rotary != null) {
            rotary.apply(q, sequences, inverse, step);
            rotary.apply(k, sequences, inverse, step);
        }
    }

    /**
     * Backward.
     *
     * @param d [N, C]: gradient of y on entry, gradient of x on return
     * @param needInput false if nothing below this block is trained: then d is left undefined
     */
    void backward(Tensor d, boolean needInput, Saved s, Sequences sequences, Step step) {
        int n = d.rows();
        boolean below = needInput || qkv.isTrained();
        Tensor dHeads = below ? step.newTensor(n, config.queryWidth()) : null;
        output.backward(dHeads, d, s.heads, s.output, step);
        if (dHeads == null) {
            return;
        }

        Projection.Outputs dqkv = qkv.newOutputs(n, step);
        Tensor dqRaw = dqkv.products().get(0);
        Tensor dkRaw = dqkv.products().get(1);
        Tensor dq = qNorm.outputGradient(dqRaw, step);
        Tensor dk = kNorm.outputGradient(dkRaw, step);
        Tensor dv = dqkv.products().get(2);
        step.ops().attentionBackward(dq, dk, dv, dHeads, s.heads, s.logSumExp, s.q.y(), s.k.y(), s.values(), s.shape);
        rotate(dq, dk, sequences, true, step);
        qNorm.backward(dqRaw, 0, dq, s.q, step);
        kNorm.backward(dkRaw, 0, dk, s.k, step);

        Tensor dh = needInput ? step.newTensor(n, d.cols()) : null;
        qkv.backward(dh, dqkv, s.input.y(), s.qkv, step);
        if (dh != null) {
            inputNorm.backward(d, 1, dh, s.input, step);
        }
    }

    /** True if a layer of this block is trained. */
    boolean isTrained() {
        return qkv.isTrained() || output.isTrained();
    }
}
