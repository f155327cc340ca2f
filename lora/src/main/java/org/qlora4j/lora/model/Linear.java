package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Dropout;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * A frozen linear layer, with LoRA if attached, or wholly trained (PEFT's {@code modules_to_save}). {@link Dora} has
 * the formulas with DoRA.
 *
 * <pre>
 * forward   u = drop(x)·Aᵀ     y = x·Wᵀ + b + s·u·Bᵀ
 * backward  du = s·dy·B        dB += s·dyᵀ·u      dA += duᵀ·drop(x)      dx = dy·W + drop(du·A)
 * </pre>
 *
 * W and b have no gradient unless they are trained: {@code dW += dyᵀ·x}, {@code db += Σ dy}.
 */
public final class Linear {
    private final String name;
    private final Weight frozen;
    private final @Nullable Tensor bias;
    private @Nullable LoraWeights lora;
    private @Nullable Parameter trained;
    private @Nullable Parameter trainedBias;
    private @Nullable TrainedRows trainedRows;
    private @Nullable LowRank takenOff;

    /**
     * What backward needs of a forward pass beside the input.
     *
     * @param u drop(x)·Aᵀ [N, rank]; null without LoRA
     * @param z DoRA's output before its rows' lengths are set [N, out]; null without DoRA
     */
    record Saved(@Nullable Tensor u, @Nullable Tensor z) {
        static final Saved NOTHING = new Saved(null, null);
    }

    Linear(String name, Weight weight, @Nullable Tensor bias) {
        this.name = name;
        this.frozen = weight;
        this.bias = bias;
    }

    /** Module name as in Hugging Face files, e.g. {@code model.layers.0.self_attn.q_proj}. */
    public String name() {
        return name;
    }

    /** The base model's weight. */
    public Weight frozen() {
        return frozen;
    }

    /** The base model's bias, if it has one. */
    public @Nullable Tensor bias() {
        return bias;
    }

    /** In features. */
    public int in() {
        return frozen.cols();
    }

    /** Out features. */
    public int out() {
        return frozen.rows();
    }

    public @Nullable LoraWeights lora() {
        return lora;
    }

    /** Attaches LoRA, or detaches it with null. */
    public void setLora(@Nullable LoraWeights lora) {
        this.lora = lora;
    }

    public @Nullable Parameter trained() {
        return trained;
    }

    /** Replaces the frozen weight by a trained copy, or goes back to it with null. */
    public void setTrained(@Nullable Parameter trained) {
        this.trained = trained;
    }

    public @Nullable Parameter trainedBias() {
        return trainedBias;
    }

    /** Replaces the frozen bias by a trained copy, or goes back to it with null. */
    public void setTrainedBias(@Nullable Parameter trained) {
        this.trainedBias = trained;
    }

    public @Nullable TrainedRows trainedRows() {
        return trainedRows;
    }

    /** Replaces some rows of the weight by trained ones, or goes back to the frozen ones with null. */
    public void setTrainedRows(@Nullable TrainedRows rows) {
        this.trainedRows = rows;
    }

    public @Nullable LowRank takenOff() {
        return takenOff;
    }

    /** Takes a low-rank part off the weight, or puts it back with null; not with DoRA. */
    public void setTakenOff(@Nullable LowRank part) {
        this.takenOff = part;
    }

    /** True if backward through this layer changes a gradient. */
    boolean isTrained() {
        return lora != null || trained != null || trainedBias != null || trainedRows != null;
    }

    private Weight weight() {
        Parameter t = trained;
        return t == null ? frozen : new Weight.Dense(t.value());
    }

    /** Brings what is computed from trained parameters up to date: at the start of every pass. */
    void update(Ops ops) {
        LoraWeights l = lora;
        if (l != null && l.magnitude() != null) {
            Dora.updateFactors(frozen, l, l.magnitude(), ops);
        }
    }

    /**
     * {@code y = layer(x) + beta·y}.
     *
     * @param y [N, out]
     * @param x [N, in]
     * @return what backward needs
     */
    Saved forward(Tensor y, Tensor x, double beta, Step step) {
        return forward(y, x, beta, null, step);
    }

    /** @param stacked u, if {@link StackedLora} has computed it */
    Saved forward(Tensor y, Tensor x, double beta, @Nullable Tensor stacked, Step step) {
        var ops = step.ops();
        LoraWeights l = lora;
        Saved saved;
        if (l == null) {
            ops.matmul(y, x, weight(), true, beta);
            saved = Saved.NOTHING;
            if (trainedRows != null) {
                trainedRows.forward(y, x, frozen, step);
            }
        } else if (l.magnitude() != null) {
            saved = Dora.forward(y, x, beta, frozen, l, l.magnitude(), step);
        } else {
            ops.matmul(y, x, frozen, true, beta);
            Tensor u = stacked == null ? lowRankInput(x, l, step) : stacked;
            ops.matmul(y, u, false, l.b().value(), true, l.scale(), 1);
            if (l.bias() != null) {
                ops.addBias(y, scaled(l.bias().value(), l.scale(), step));
            }
            saved = new Saved(u, null);
        }
        if (takenOff != null) {
            takenOff.subtract(y, x, step);
        }
        Tensor b = trainedBias == null ? bias : trainedBias.value();
        if (b != null) {
            ops.addBias(y, b);
        }
        return saved;
    }

    /** What backward needs, without the output: for a recomputed block whose output nobody needs. */
    Saved saved(Tensor x, Step step) {
        LoraWeights l = lora;
        if (l == null) {
            return Saved.NOTHING;
        }
        return l.magnitude() == null ? new Saved(lowRankInput(x, l, step), null) : Dora.saved(x, frozen, l, step);
    }

    private static Tensor scaled(Tensor bias, double scale, Step step) {
        Tensor scaled = step.newPrecise(1, bias.cols());
        step.ops().fill(scaled, 0);
        step.ops().add(scaled, bias, scale);
        return scaled;
    }

    private static Tensor lowRankInput(Tensor x, LoraWeights l, Step step) {
        Tensor u = step.newTensor(x.rows(), l.rank());
        step.ops().matmul(u, droppedInput(x, l, step), false, l.a().value(), true, 1, 0);
        return u;
    }

    /**
     * Adds to the parameters' gradients and gives the input's.
     *
     * @param dx [N, in]: {@code beta·dx + gradient}; null if nobody needs it
     * @param dy [N, out]
     * @param x the forward's input
     * @param saved what forward returned
     */
    void backward(@Nullable Tensor dx, double beta, Tensor dy, Tensor x, Saved saved, Step step) {
        backward(dx, beta, dy, x, saved, null, step);
    }

    /** @param stacked takes du, if {@link StackedLora} does what follows from it */
    void backward(
            @Nullable Tensor dx, double beta, Tensor dy, Tensor x, Saved saved, @Nullable Tensor stacked, Step step) {
        if (trainedBias != null) {
            addColumnSums(trainedBias, dy, 1, step);
        }
        LoraWeights l = lora;
        Tensor u = saved.u;
        Tensor z = saved.z;
        if (l != null && u != null && z != null && l.magnitude() != null) {
            Dora.backward(dx, beta, dy, x, u, z, frozen, l, l.magnitude(), step);
            return;
        }
        var ops = step.ops();
        if (dx != null) {
            ops.matmul(dx, dy, weight(), false, beta);
            if (takenOff != null) {
                takenOff.subtractBackward(dx, dy, step);
            }
        }
        Parameter t = trained;
        if (t != null) {
            ops.matmul(t.gradient(), dy, true, x, false, 1, 1);
        }
        if (trainedRows != null) {
            trainedRows.backward(dx, dy, x, frozen, step);
        }
        if (l != null && u != null) {
            Tensor du = stacked == null ? step.newTensor(x.rows(), l.rank()) : stacked;
            ops.matmul(du, dy, false, l.b().value(), false, l.scale(), 0);
            ops.matmul(l.b().gradient(), dy, true, u, false, l.scale(), 1);
            if (l.bias() != null) {
                addColumnSums(l.bias(), dy, l.scale(), step);
            }
            if (stacked == null) {
                lowRankInputBackward(dx, du, x, l, step);
            }
        }
    }

    private static void lowRankInputBackward(@Nullable Tensor dx, Tensor du, Tensor x, LoraWeights l, Step step) {
        var ops = step.ops();
        ops.matmul(l.a().gradient(), du, true, droppedInput(x, l, step), false, 1, 1);
        if (dx == null) {
            return;
        }
        if (!drops(l, step)) {
            ops.matmul(dx, du, false, l.a().value(), false, 1, 1);
        } else {
            Tensor through = step.newTensor(x.rows(), x.cols());
            ops.matmul(through, du, false, l.a().value(), false, 1, 0);
            ops.dropout(through, through, l.dropout(), maskSeed(l, step));
            ops.add(dx, through, 1);
        }
    }

    private static void addColumnSums(Parameter bias, Tensor dy, double scale, Step step) {
        Tensor ones = step.newTensor(1, dy.rows());
        step.ops().fill(ones, 1);
        step.ops().matmul(bias.gradient(), ones, false, dy, false, scale, 1);
    }

    static boolean drops(LoraWeights l, Step step) {
        return step.training() && l.dropout() > 0;
    }

    static long maskSeed(LoraWeights l, Step step) {
        return Dropout.mix(step.seed(), l.stream());
    }

    /** drop(x): x itself where nothing is dropped. */
    static Tensor droppedInput(Tensor x, LoraWeights l, Step step) {
        if (!drops(l, step)) {
            return x;
        }
        Tensor dropped = step.newTensor(x.rows(), x.cols());
        step.ops().dropout(dropped, x, l.dropout(), maskSeed(l, step));
        return dropped;
    }
}
