package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * The token embedding: frozen, with LoRA, wholly trained, or with some trained rows.
 *
 * <pre>
 * forward   x[i] = c·(W[id i] + s·A[id i]·Bᵀ)    A is [V, rank], B is [C, rank]
 * backward  dW[id i] += c·d[i]    dB += c·s·dᵀ·u dA[id i] += c·s·d[i]·B
 * </pre>
 */
public final class Embedding {
    private final String name;
    private final Weight frozen;
    private final double scale;
    private @Nullable LoraWeights lora;
    private @Nullable Parameter trained;
    private @Nullable TrainedRows trainedRows;

    /** @param scale on all of it, c in the formulas: 1, or Gemma's √C */
    Embedding(String name, Weight frozen, double scale) {
        this.name = name;
        this.frozen = frozen;
        this.scale = scale;
    }

    /** Module name as in Hugging Face files: {@code model.embed_tokens}. */
    public String name() {
        return name;
    }

    /** The base model's table [V, C]; also the output layer's weight if they are tied. */
    public Weight frozen() {
        return frozen;
    }

    public @Nullable LoraWeights lora() {
        return lora;
    }

    /** Attaches LoRA, or detaches it with null; A is [V, rank], there is no dropout. */
    public void setLora(@Nullable LoraWeights lora) {
        this.lora = lora;
    }

    public @Nullable Parameter trained() {
        return trained;
    }

    /** Replaces the frozen table by a trained copy, or goes back to it with null. */
    public void setTrained(@Nullable Parameter trained) {
        this.trained = trained;
    }

    public @Nullable TrainedRows trainedRows() {
        return trainedRows;
    }

    /** Replaces some rows by trained ones, or goes back to the frozen ones with null. */
    public void setTrainedRows(@Nullable TrainedRows rows) {
        this.trainedRows = rows;
    }

    boolean isTrained() {
        return lora != null || trained != null || trainedRows != null;
    }

    /** {@code x[i] =} the row of id i. @param x result [N, C] */
    void forward(Tensor x, int[] ids, Device device, Step step) {
        if (scale == 1) {
            unscaled(x, ids, device, step);
            return;
        }
        Tensor rows = step.newTensor(x.rows(), x.cols());
        unscaled(rows, ids, device, step);
        scale(x, rows, step);
    }

    /** {@code y = c·x}. */
    private void scale(Tensor y, Tensor x, Step step) {
        step.ops().fill(y, 0);
        step.ops().add(y, x, scale);
    }

    private void unscaled(Tensor x, int[] ids, Device device, Step step) {
        var ops = step.ops();
        Tensor idTensor = upload(ids, device, step);
        Parameter t = trained;
        ops.embedding(x, idTensor, t == null ? frozen : new Weight.Dense(t.value()));
        TrainedRows rows = trainedRows;
        for (int i = 0; rows != null && i < ids.length; i++) {
            int k = rows.indexOf(ids[i]);
            if (k >= 0) {
                ops.copy(x.rows(i, 1), rows.values().value().rows(k, 1));
            }
        }
        LoraWeights l = lora;
        if (l != null) {
            ops.matmul(x, lowRank(idTensor, l, step), false, l.b().value(), true, l.scale(), 1);
        }
    }

    /** Adds to the parameters' gradients. @param dx gradient of forward's result [N, C] */
    void backward(Tensor dx, int[] ids, Device device, Step step) {
        var ops = step.ops();
        Tensor d = dx;
        if (scale != 1) {
            d = step.newTensor(dx.rows(), dx.cols());
            scale(d, dx, step);
        }
        Tensor idTensor = upload(ids, device, step);
        Parameter t = trained;
        if (t != null) {
            ops.embeddingBackward(t.gradient(), idTensor, d);
        }
        TrainedRows rows = trainedRows;
        for (int i = 0; rows != null && i < ids.length; i++) {
            int k = rows.indexOf(ids[i]);
            if (k >= 0) {
                ops.add(rows.values().gradient().rows(k, 1), d.rows(i, 1), 1);
            }
        }
        LoraWeights l = lora;
        if (l != null) {
            ops.matmul(l.b().gradient(), d, true, lowRank(idTensor, l, step), false, l.scale(), 1);
            Tensor du = step.newTensor(d.rows(), l.b().value().cols());
            ops.matmul(du, d, false, l.b().value(), false, l.scale(), 0);
            ops.embeddingBackward(l.a().gradient(), idTensor, du);
        }
    }

    private static Tensor lowRank(Tensor ids, LoraWeights l, Step step) {
        Tensor u = step.newTensor(ids.cols(), l.b().value().cols());
        step.ops().embedding(u, ids, new Weight.Dense(l.a().value()));
        return u;
    }

    private static Tensor upload(int[] ids, Device device, Step step) {
        Tensor t = step.scope().newTensor(DType.I32, 1, ids.length);
        device.upload(t, ids, 0);
        return t;
    }
}
