package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The feed-forward half of a layer: {@code y = x + down_proj(silu(gate_proj(h)) ⊙ up_proj(h))} with {@code h =
 * rmsNorm(x)}.
 */
final class MlpBlock {
    private final ModelConfig config;
    private final Tensor norm;
    final Linear gate;
    final Linear up;
    final Linear down;

    MlpBlock(ModelConfig config, Tensor norm, Linear gate, Linear up, Linear down) {
        this.config = config;
        this.norm = norm;
        this.gate = gate;
        this.up = up;
        this.down = down;
    }

    /** What backward needs; {@code product} is down_proj's input. */
    record Saved(
            Tensor x,
            Tensor rstd,
            Tensor h,
            Tensor gate,
            Tensor up,
            Tensor product,
            Linear.Saved uGate,
            Linear.Saved uUp,
            Linear.Saved uDown) {}

    /**
     * Forward.
     *
     * @param y result [N, C], not x; null if only the saved values are wanted (a recomputed block needs no down
     *     projection)
     * @param x [N, C]
     */
    Saved forward(@Nullable Tensor y, Tensor x, Step step) {
        var ops = step.ops();
        int n = x.rows();
        Tensor rstd = step.newTensor(1, n);
        Tensor h = step.newTensor(n, x.cols());
        ops.rmsNorm(h, rstd, x, norm, config.rmsNormEps());

        Tensor g = step.newTensor(n, gate.out());
        Tensor u = step.newTensor(n, up.out());
        Linear.Saved uGate = gate.forward(g, h, 0, step);
        Linear.Saved uUp = up.forward(u, h, 0, step);
        Tensor product = step.newTensor(n, down.in());
        ops.swiGlu(product, g, u);

        Linear.Saved uDown;
        if (y != null) {
            ops.copy(y, x);
            uDown = down.forward(y, product, 1, step);
        } else {
            uDown = down.saved(product, step);
        }
        return new Saved(x, rstd, h, g, u, product, uGate, uUp, uDown);
    }

    /**
     * Backward; overwrites the saved gate and up values with their gradients.
     *
     * @param d [N, C]: gradient of y on entry, gradient of x on return
     * @param needInput false if nothing below this block is trained: then d is left undefined
     */
    void backward(Tensor d, boolean needInput, Saved s, Step step) {
        var ops = step.ops();
        int n = d.rows();
        Tensor dProduct = step.newTensor(n, down.in());
        down.backward(dProduct, 0, d, s.product, s.uDown, step);
        ops.swiGluBackward(s.gate, s.up, dProduct, s.gate, s.up);

        Tensor dh = needInput ? step.newTensor(n, d.cols()) : null;
        gate.backward(dh, 0, s.gate, s.h, s.uGate, step);
        up.backward(dh, 1, s.up, s.h, s.uUp, step);
        if (dh != null) {
            ops.rmsNormBackward(d, dh, s.x, s.rstd, norm, 1);
        }
    }

    /** True if a layer of this block is trained. */
    boolean isTrained() {
        return gate.isTrained() || up.isTrained() || down.isTrained();
    }
}
