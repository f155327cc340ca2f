package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * RMS norm with a frozen weight over pieces of a row as wide as the weight: the whole row, or each head. Or no norm at
 * all, where a family has none: then the result is the input itself.
 */
final class Norm {
    /** The norm a family does not have. */
    static final Norm NONE = new Norm(null, 0);

    private final @Nullable Tensor weight;
    private final double eps;

    private Norm(@Nullable Tensor weight, double eps) {
        this.weight = weight;
        this.eps = eps;
    }

    /** @param weight [1, W] */
    static Norm of(Tensor weight, double eps) {
        return new Norm(weight, eps);
    }

    /** What backward needs: input, result, and 1/√(mean(x²) + eps) of each piece; null without a norm. */
    record Saved(Tensor x, Tensor y, @Nullable Tensor rstd) {}

    boolean isNone() {
        return weight == null;
    }

    /** {@code y = norm(x)} in a new tensor. @param x [N, k·W] */
    Saved forward(Tensor x, Step step) {
        Tensor w = weight;
        if (w == null) {
            return new Saved(x, x, null);
        }
        Tensor y = step.newTensor(x.rows(), x.cols());
        Tensor pieces = pieces(x, w);
        Tensor rstd = step.newPrecise(1, pieces.rows());
        step.ops().rmsNorm(pieces(y, w), rstd, pieces, w, eps);
        return new Saved(x, y, rstd);
    }

    /** Where the gradient of y is to be written before {@link #backward} brings it to dx: dx itself without a norm. */
    Tensor outputGradient(Tensor dx, Step step) {
        return weight == null ? dx : step.newTensor(dx.rows(), dx.cols());
    }

    /** {@code dx = beta·dx + gradient}. @param dx not dy, unless there is no norm */
    void backward(Tensor dx, double beta, Tensor dy, Saved saved, Step step) {
        Tensor w = weight;
        Tensor rstd = saved.rstd;
        if (w != null && rstd != null) {
            step.ops().rmsNormBackward(pieces(dx, w), pieces(dy, w), pieces(saved.x, w), rstd, w, beta);
        } else if (beta != 0) {
            step.ops().add(dx, dy, 1);
        } else if (dx != dy) {
            step.ops().copy(dx, dy);
        }
    }

    private static Tensor pieces(Tensor t, Tensor weight) {
        int width = weight.cols();
        return t.cols() == width ? t : t.reshape(t.rows() * (t.cols() / width), width);
    }
}
