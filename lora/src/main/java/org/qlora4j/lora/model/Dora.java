package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * A frozen weight whose rows keep a trained length m while LoRA turns them. With {@code f = m / ‖W + s·B·A‖} (row
 * lengths, a constant for backward) and {@code x̃ = drop(x)}:
 *
 * <pre>
 * forward   u = x̃·Aᵀ     z = x̃·Wᵀ + s·u·Bᵀ      y = f ⊙ z                      without dropout
 *                                                y = x·Wᵀ − x̃·Wᵀ + f ⊙ z       with it, as PEFT does
 * backward  dm += Σ dy ⊙ z / ‖W + s·B·A‖         dz = f ⊙ dy
 *           du = s·dz·B      dB += s·dzᵀ·u       dA += duᵀ·x̃
 *           dx = dz·W + du·A                     dx = dy·W + drop((dz − dy)·W + du·A)
 * </pre>
 *
 * @see <a href="https://arxiv.org/abs/2402.09353">Liu et al. 2024</a>
 */
final class Dora {
    private Dora() {}

    /** Computes the factors f from the present A, B and m: at the start of every pass. */
    static void updateFactors(Weight w, LoraWeights l, LoraWeights.Magnitude g, Ops ops) {
        ops.inverseRowNorms(g.inverseNorms(), w, l.a().value(), l.b().value(), l.scale());
        ops.scaleColumns(g.factors(), g.m().value(), g.inverseNorms(), 0);
    }

    /** {@code y = layer(x) + beta·y} without bias. */
    static Linear.Saved forward(
            Tensor y, Tensor x, double beta, Weight w, LoraWeights l, LoraWeights.Magnitude g, Step step) {
        var ops = step.ops();
        Tensor dropped = Linear.droppedInput(x, l, step);
        Tensor z = step.newTensor(x.rows(), w.rows());
        ops.matmul(z, dropped, w, true, 0);
        double rest = beta;
        if (dropped != x) {
            ops.matmul(y, x, w, true, beta);
            ops.add(y, z, -1);
            rest = 1;
        }
        Tensor u = addLowRank(z, dropped, l, step);
        ops.scaleColumns(y, z, g.factors(), rest);
        return new Linear.Saved(u, z);
    }

    /** What backward needs, without the output. */
    static Linear.Saved saved(Tensor x, Weight w, LoraWeights l, Step step) {
        Tensor dropped = Linear.droppedInput(x, l, step);
        Tensor z = step.newTensor(x.rows(), w.rows());
        step.ops().matmul(z, dropped, w, true, 0);
        return new Linear.Saved(addLowRank(z, dropped, l, step), z);
    }

    private static Tensor addLowRank(Tensor z, Tensor dropped, LoraWeights l, Step step) {
        Tensor u = step.newTensor(dropped.rows(), l.rank());
        step.ops().matmul(u, dropped, false, l.a().value(), true, 1, 0);
        step.ops().matmul(z, u, false, l.b().value(), true, l.scale(), 1);
        return u;
    }

    /** Adds to the gradients of m, A and B; gives {@code dx = beta·dx + gradient} if dx is not null. */
    static void backward(
            @Nullable Tensor dx,
            double beta,
            Tensor dy,
            Tensor x,
            Tensor u,
            Tensor z,
            Weight w,
            LoraWeights l,
            LoraWeights.Magnitude g,
            Step step) {
        var ops = step.ops();
        Tensor dFactor = step.newPrecise(1, w.rows());
        ops.fill(dFactor, 0);
        ops.columnDots(dFactor, dy, z);
        ops.scaleColumns(g.m().gradient(), dFactor, g.inverseNorms(), 1);

        Tensor dz = step.newTensor(dy.rows(), dy.cols());
        ops.scaleColumns(dz, dy, g.factors(), 0);
        Tensor du = step.newTensor(x.rows(), l.rank());
        ops.matmul(du, dz, false, l.b().value(), false, l.scale(), 0);
        ops.matmul(l.b().gradient(), dz, true, u, false, l.scale(), 1);
        Tensor dropped = Linear.droppedInput(x, l, step);
        ops.matmul(l.a().gradient(), du, true, dropped, false, 1, 1);
        if (dx == null) {
            return;
        }
        if (dropped == x) {
            ops.matmul(dx, dz, w, false, beta);
            ops.matmul(dx, du, false, l.a().value(), false, 1, 1);
            return;
        }
        ops.matmul(dx, dy, w, false, beta);
        ops.add(dz, dy, -1);
        Tensor through = dropped;
        ops.matmul(through, dz, w, false, 0);
        ops.matmul(through, du, false, l.a().value(), false, 1, 1);
        ops.dropout(through, through, l.dropout(), Linear.maskSeed(l, step));
        ops.add(dx, through, 1);
    }
}
