package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The attention half of a layer: {@code y = x + o_proj(attention(rope(q_proj(h)), rope(k_proj(h)), v_proj(h)))} with
 * {@code h = rmsNorm(x)}.
 */
final class AttentionBlock {
    private final ModelConfig config;
    private final Tensor norm;
    private final Rotary rotary;
    final Linear q;
    final Linear k;
    final Linear v;
    final Linear o;

    AttentionBlock(ModelConfig config, Tensor norm, Rotary rotary, Linear q, Linear k, Linear v, Linear o) {
        this.config = config;
        this.norm = norm;
        this.rotary = rotary;
        this.q = q;
        this.k = k;
        this.v = v;
        this.o = o;
    }

    /** What backward needs; x is the input of the block, u… what the four layers keep. */
    record Saved(
            Tensor x,
            Tensor rstd,
            Tensor h,
            Tensor q,
            Tensor k,
            Tensor v,
            Tensor heads,
            Tensor logSumExp,
            AttentionShape shape,
            Linear.Saved uq,
            Linear.Saved uk,
            Linear.Saved uv,
            Linear.Saved uo) {}

    /**
     * Forward.
     *
     * @param y result [N, C], not x
     * @param x [N, C]
     * @param cache keys and values of earlier tokens, to which this pass's are added; null in training
     */
    Saved forward(Tensor y, Tensor x, Sequences sequences, KvCache.@Nullable Layer cache, Step step) {
        var ops = step.ops();
        int n = x.rows();
        Tensor rstd = step.newTensor(1, n);
        Tensor h = step.newTensor(n, x.cols());
        ops.rmsNorm(h, rstd, x, norm, config.rmsNormEps());

        Tensor queries = step.newTensor(n, q.out());
        Tensor keys = step.newTensor(n, k.out());
        Tensor values = step.newTensor(n, v.out());
        Linear.Saved uq = q.forward(queries, h, 0, step);
        Linear.Saved uk = k.forward(keys, h, 0, step);
        Linear.Saved uv = v.forward(values, h, 0, step);
        rotary.apply(queries, sequences, false, step);
        rotary.apply(keys, sequences, false, step);

        int[] keyOffsets = sequences.offsets();
        if (cache != null) {
            cache.append(keys, values, step.ops());
            keys = cache.keys();
            values = cache.values();
            keyOffsets = new int[] {0, keys.rows()};
        }
        AttentionShape shape = sequences.attention(config, keyOffsets);
        Tensor heads = step.newTensor(n, o.in());
        Tensor logSumExp = step.newTensor(config.numHeads(), n);
        ops.attention(heads, logSumExp, queries, keys, values, shape);

        ops.copy(y, x);
        Linear.Saved uo = o.forward(y, heads, 1, step);
        return new Saved(x, rstd, h, queries, keys, values, heads, logSumExp, shape, uq, uk, uv, uo);
    }

    /**
     * Backward.
     *
     * @param d [N, C]: gradient of y on entry, gradient of x on return
     * @param needInput false if nothing below this block is trained: then d is left undefined
     */
    void backward(Tensor d, boolean needInput, Saved s, Sequences sequences, Step step) {
        var ops = step.ops();
        int n = d.rows();
        boolean below = needInput || q.isTrained() || k.isTrained() || v.isTrained();
        Tensor dHeads = below ? step.newTensor(n, o.in()) : null;
        o.backward(dHeads, 0, d, s.heads, s.uo, step);
        if (dHeads == null) {
            return;
        }

        Tensor dq = step.newTensor(n, q.out());
        Tensor dk = step.newTensor(n, k.out());
        Tensor dv = step.newTensor(n, v.out());
        ops.attentionBackward(dq, dk, dv, dHeads, s.heads, s.logSumExp, s.q, s.k, s.v, s.shape);
        rotary.apply(dq, sequences, true, step);
        rotary.apply(dk, sequences, true, step);

        Tensor dh = needInput ? step.newTensor(n, d.cols()) : null;
        q.backward(dh, 0, dq, s.h, s.uq, step);
        k.backward(dh, 1, dk, s.h, s.uk, step);
        v.backward(dh, 1, dv, s.h, s.uv, step);
        if (dh != null) {
            ops.rmsNormBackward(d, dh, s.x, s.rstd, norm, 1);
        }
    }

    /** True if a layer of this block is trained. */
    boolean isTrained() {
        return q.isTrained() || k.isTrained() || v.isTrained() || o.isTrained();
    }
}
