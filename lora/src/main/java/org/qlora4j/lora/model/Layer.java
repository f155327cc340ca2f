package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/** One decoder layer: attention, then feed-forward, each added to the residual stream. */
final class Layer {
    final AttentionBlock attention;
    final FeedForward mlp;

    Layer(AttentionBlock attention, FeedForward mlp) {
        this.attention = attention;
        this.mlp = mlp;
    }

    /** What backward needs. */
    record Saved(AttentionBlock.Saved attention, FeedForward.Saved mlp) {}

    /**
     * Forward.
     *
     * @param y [N, C]; null to recompute only what backward needs
     * @param x [N, C]
     * @param caches as in {@link AttentionBlock#forward}
     */
    Saved forward(@Nullable Tensor y, Tensor x, Sequences sequences, @Nullable List<KvCache.Layer> caches, Step step) {
        Tensor middle = step.newTensor(x.rows(), x.cols());
        AttentionBlock.Saved a = attention.forward(middle, x, sequences, caches, step);
        return new Saved(a, mlp.forward(y, middle, step));
    }

    /**
     * Backward.
     *
     * @param d [N, C]: gradient of y on entry, of x on return
     * @param needInput false if no layer below is trained
     */
    void backward(Tensor d, boolean needInput, Saved saved, Sequences sequences, Step step) {
        boolean belowMlp = needInput || attention.isTrained();
        mlp.backward(d, belowMlp, saved.mlp, step);
        if (belowMlp) {
            attention.backward(d, needInput, saved.attention, sequences, step);
        }
    }

    boolean isTrained() {
        return attention.isTrained() || mlp.isTrained();
    }

    List<Linear> linears() {
        List<Linear> linears = new ArrayList<>(attention.qkv.linears());
        linears.add(attention.output.linear);
        linears.addAll(mlp.linears());
        return linears;
    }
}
