package org.qlora4j.lora.model;

import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/** The second half of a layer, residual stream and norms included: one gated block, or a mixture of many. */
sealed interface FeedForward permits MlpBlock, ExpertsBlock {
    /** What backward of the same block needs. */
    sealed interface Saved permits MlpBlock.Saved, ExpertsBlock.Saved {}

    /**
     * Forward.
     *
     * @param y result [N, C], not x; null if only the saved values are wanted
     * @param x [N, C]
     */
    Saved forward(@Nullable Tensor y, Tensor x, Step step);

    /**
     * Backward; overwrites saved values.
     *
     * @param d [N, C]: gradient of y on entry, gradient of x on return
     * @param needInput false if nothing below this block is trained: then d is left undefined
     * @param saved what this block's forward returned
     */
    void backward(Tensor d, boolean needInput, Saved saved, Step step);

    /** True if a layer of this block is trained. */
    boolean isTrained();

    /** In the order of a forward pass. */
    List<Linear> linears();
}
