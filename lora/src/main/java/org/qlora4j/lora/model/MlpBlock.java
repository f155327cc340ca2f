package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The feed-forward half of a layer: {@code y = x + norm(down_proj(act(gate) ⊙ up))} with {@code gate, up} the
 * projections of {@code norm(x)}. Which of the norms exist is the family's choice.
 */
final class MlpBlock {
    private final Activation activation;
    private final Norm inputNorm;
    final Projection gateUp;
    final ResidualOutput output;

    MlpBlock(Activation activation, Norm inputNorm, Projection gateUp, ResidualOutput output) {
        this.activation = activation;
        this.inputNorm = inputNorm;
        this.gateUp = gateUp;
        this.output = output;
    }

    /** What backward needs; {@code product} is down_proj's input. */
    record Saved(Norm.Saved input, Projection.Saved gateUp, Tensor product, ResidualOutput.Saved output) {}

    /**
     * Forward.
     *
     * @param y result [N, C], not x; null if only the saved values are wanted
     * @param x [N, C]
     */
    Saved forward(@Nullable Tensor y, Tensor x, Step step) {
        Norm.Saved input = inputNorm.forward(x, step);
        Projection.Saved projected = gateUp.forward(input.y(), step);
        Tensor product = step.newTensor(x.rows(), output.linear.in());
        activation.gated(step.ops(), product, projected.product(0), projected.product(1));
        return new Saved(input, projected, product, output.forward(y, x, product, step));
    }

    /**
     * Backward; overwrites the saved gate and up values with their gradients.
     *
     * @param d [N, C]: gradient of y on entry, gradient of x on return
     * @param needInput false if nothing below this block is trained: then d is left undefined
     */
    void backward(Tensor d, boolean needInput, Saved s, Step step) {
        Tensor dProduct = step.newTensor(d.rows(), output.linear.in());
        output.backward(dProduct, d, s.product, s.output, step);
        Tensor gate = s.gateUp.product(0);
        Tensor up = s.gateUp.product(1);
        activation.gatedBackward(step.ops(), gate, up, dProduct, gate, up);

        Tensor dh = needInput ? step.newTensor(d.rows(), d.cols()) : null;
        gateUp.backward(dh, s.gateUp.outputs(), s.input.y(), s.gateUp, step);
        if (dh != null) {
            inputNorm.backward(d, 1, dh, s.input, step);
        }
    }

    /** True if a layer of this block is trained. */
    boolean isTrained() {
        return gateUp.isTrained() || output.isTrained();
    }
}
