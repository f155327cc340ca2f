package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/** One expert of a mixture: {@code y = down_proj(act(gate) ⊙ up)} with {@code gate, up} the projections of x. */
final class Expert {
    private final Activation activation;
    private final Projection gateUp;
    private final Linear down;

    Expert(Activation activation, Projection gateUp, Linear down) {
        this.activation = activation;
        this.gateUp = gateUp;
        this.down = down;
    }

    /** What backward needs; {@code product} is down_proj's input. */
    record Saved(Projection.Saved gateUp, Tensor product, Linear.Saved down) {}

    /** Forward. @param y result [N, C] @param x [N, C], at least one row */
    Saved forward(Tensor y, Tensor x, Step step) {
        Projection.Saved projected = gateUp.forward(x, step);
        Tensor product = step.newTensor(x.rows(), down.in());
        activation.gated(step.ops(), product, projected.product(0), projected.product(1));
        return new Saved(projected, product, down.forward(y, product, 0, step));
    }

    /**
     * Backward; overwrites the saved gate and up values with their gradients.
     *
     * @param dx result [N, C]; null if nobody needs it
     * @param dy [N, C]
     * @param x the forward's input
     */
    void backward(@Nullable Tensor dx, Tensor dy, Tensor x, Saved s, Step step) {
        Tensor dProduct = step.newTensor(dy.rows(), down.in());
        down.backward(dProduct, 0, dy, s.product, s.down, step);
        Tensor gate = s.gateUp.product(0);
        Tensor up = s.gateUp.product(1);
        activation.gatedBackward(step.ops(), gate, up, dProduct, gate, up);
        gateUp.backward(dx, s.gateUp.outputs(), x, s.gateUp, step);
    }

    boolean isTrained() {
        return gateUp.isTrained() || down.isTrained();
    }

    List<Linear> linears() {
        List<Linear> linears = new ArrayList<>(gateUp.linears());
        linears.add(down);
        return linears;
    }
}
