package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/** The end of both halves of a layer: {@code y = x + norm(linear(z))}. */
final class ResidualOutput {
    final Linear linear;
    private final Norm norm;

    ResidualOutput(Linear linear, Norm norm) {
        this.linear = linear;
        this.norm = norm;
    }

    /** What backward needs; norm is null where there is none. */
    record Saved(Linear.Saved linear, Norm.@Nullable Saved norm) {}

    /**
     * Forward.
     *
     * @param y result [N, C], not x; null if only the saved values are wanted: without a norm nothing is then
     *     multiplied by W
     * @param x [N, C]
     * @param z [N, in features of linear]
     */
    Saved forward(@Nullable Tensor y, Tensor x, Tensor z, Step step) {
        var ops = step.ops();
        if (!norm.isNone()) {
            Tensor out = step.newTensor(x.rows(), x.cols());
            Linear.Saved saved = linear.forward(out, z, 0, step);
            Norm.Saved normed = norm.forward(out, step);
            if (y != null) {
                ops.copy(y, x);
                ops.add(y, normed.y(), 1);
            }
            return new Saved(saved, normed);
        }
        if (y == null) {
            return new Saved(linear.saved(z, step), null);
        }
        ops.copy(y, x);
        return new Saved(linear.forward(y, z, 1, step), null);
    }

    /**
     * Backward into z; the gradient of x is d itself.
     *
     * @param dz result [N, in features of linear]; null if nobody needs it
     * @param d [N, C]: gradient of y
     * @param z the forward's input
     */
    void backward(@Nullable Tensor dz, Tensor d, Tensor z, Saved saved, Step step) {
        Tensor dOut = d;
        if (saved.norm != null) {
            dOut = step.newTensor(d.rows(), d.cols());
            norm.backward(dOut, 0, d, saved.norm, step);
        }
        linear.backward(dz, 0, dOut, z, saved.linear, step);
    }

    boolean isTrained() {
        return linear.isTrained();
    }
}
