package org.qlora4j.lora.model;

import org.qlora4j.nf4.tensor.Tensor;

/**
 * A frozen low-rank part that is taken off a layer's weight: {@code W − scale·B·A}. PiSSA and OLoRA start LoRA with it,
 * so that the whole is W at first.
 *
 * @param a [rank, in features]
 * @param b [out features, rank]
 */
public record LowRank(Tensor a, Tensor b, double scale) {
    /** {@code y −= scale·x·Aᵀ·Bᵀ}. */
    void subtract(Tensor y, Tensor x, Step step) {
        Tensor u = step.newTensor(x.rows(), a.rows());
        step.ops().matmul(u, x, false, a, true, 1, 0);
        step.ops().matmul(y, u, false, b, true, -scale, 1);
    }

    /** {@code dx −= scale·dy·B·A}. */
    void subtractBackward(Tensor dx, Tensor dy, Step step) {
        Tensor du = step.newTensor(dy.rows(), a.rows());
        step.ops().matmul(du, dy, false, b, false, 1, 0);
        step.ops().matmul(dx, du, false, a, false, -scale, 1);
    }
}
