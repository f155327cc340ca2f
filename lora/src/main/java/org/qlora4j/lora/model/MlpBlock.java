package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The feed-forward half of a layer: {@code y = x + norm(down_proj(act(gate) ⊙ up))} with {@code gate, up} the
 * projections of {@code norm(x)}. Which of the norms exist is the family's choice.
 */
final class MlpBlock implements FeedForward {
    private final Activation activation;
    private final Norm inputNorm;
    private final Projection gateUp;
    private final ResidualOutput output;

    MlpBlock(Activation activation, Norm inputNorm, Projection gateUp, ResidualOutput output) {
        this.activation = activation;
        this.inputNorm = inputNorm;
        this.gateUp = gateUp;
        this.output = output;
    }

    /** What backward needs; {@code product} is down_proj's input. */
    record Saved(Norm.Saved input, Projection.Saved gateUp, Tensor product, ResidualOutput.Saved output)
            implements FeedForward.Saved {}

    @Override
    public Saved forward(@Nullable Tensor y, Tensor x, Step step) {
        Norm.Saved input = inputNorm.forward(x, step);
        Projection.Saved projected = gateUp.forward(input.y(), step);
        Tensor product = step.newTensor(x.rows(), output.linear.in());
        activation.gated(step.ops(), product, projected.product(0), projected.product(1));
        return new Saved(input, projected, product, output.forward(y, x, product, step));
    }

    /** The saved gate and up values become their gradients. */
    @Override
    public void backward(Tensor d, boolean needInput, FeedForward.Saved saved, Step step) {
        Saved s = (Saved) saved;
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

    @Override
    public boolean isTrained() {
        return gateUp.isTrained() || output.isTrained();
    }

    @Override
    public List<Linear> linears() {
        List<Linear> linears = new ArrayList<>(gateUp.linears());
        linears.add(output.linear);
        return linears;
    }
}
