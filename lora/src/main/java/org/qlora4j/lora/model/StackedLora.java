package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * LoRA of layers that multiply the same input, if their A lie one behind the other: one product in place of one for
 * each.
 *
 * <pre>
 * forward   [u₁ u₂ u₃] = x·[A₁; A₂; A₃]ᵀ
 * backward  dA += duᵀ·x      dx += du·A      of all together
 * </pre>
 *
 * @param layers LoRA of each layer
 * @param a all A [sum of ranks, in]
 * @param gradient of all A, the same
 */
record StackedLora(List<LoraWeights> layers, Tensor a, Tensor gradient) {
    /** The stack of these layers in this pass; null if one has no LoRA, DoRA, dropout, or an A somewhere else. */
    static @Nullable StackedLora of(List<Linear> linears, Step step) {
        List<LoraWeights> layers = new ArrayList<>(linears.size());
        Tensor a = null;
        Tensor gradient = null;
        for (Linear linear : linears) {
            LoraWeights l = linear.lora();
            if (linears.size() < 2 || l == null || l.magnitude() != null || Linear.drops(l, step)) {
                return null;
            }
            a = a == null ? l.a().value() : joined(a, l.a().value());
            gradient = gradient == null ? l.a().gradient() : joined(gradient, l.a().gradient());
            if (a == null || gradient == null) {
                return null;
            }
            layers.add(l);
        }
        return a == null || gradient == null ? null : new StackedLora(layers, a, gradient);
    }

    /** Two matrices as one; null if the second does not follow the first. */
    private static @Nullable Tensor joined(Tensor first, Tensor second) {
        boolean follows = first.memory() == second.memory()
                && first.isContiguous()
                && second.isContiguous()
                && first.cols() == second.cols()
                && first.address() + first.spanBytes() == second.address();
        return follows
                ? new Tensor(
                        first.memory(),
                        first.dtype(),
                        first.rows() + second.rows(),
                        first.cols(),
                        first.stride(),
                        first.address())
                : null;
    }

    /** Room for all u, or their gradients. */
    Tensor newInput(int n, Step step) {
        return step.newTensor(n, a.rows());
    }

    /** All u [N, sum of ranks]. */
    Tensor forward(Tensor x, Step step) {
        Tensor u = newInput(x.rows(), step);
        step.ops().matmul(u, x, false, a, true, 1, 0);
        return u;
    }

    /** Each layer's columns of all u. */
    List<Tensor> split(Tensor u) {
        List<Tensor> parts = new ArrayList<>(layers.size());
        int column = 0;
        for (LoraWeights l : layers) {
            parts.add(u.cols(column, l.rank()));
            column += l.rank();
        }
        return parts;
    }

    /** Adds to the gradients of all A, and to the input's. */
    void backward(@Nullable Tensor dx, Tensor du, Tensor x, Step step) {
        step.ops().matmul(gradient, du, true, x, false, 1, 1);
        if (dx != null) {
            step.ops().matmul(dx, du, false, a, false, 1, 1);
        }
    }
}
