package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * Rows of an embedding, or of the output layer tied to it, that are trained while the others stay frozen (PEFT's
 * {@code trainable_token_indices}). In the output layer, with D the trained rows less the frozen ones:
 *
 * <pre>
 * forward   y[·, token k] += x·D[k]
 * backward  dx += dy[·, tokens]·D      dV += dy[·, tokens]ᵀ·x
 * </pre>
 *
 * @param values V [tokens, C]: what stands in the place of the rows
 * @param tokens token ids, no id twice
 * @param ids the same on the device, I32 [1, tokens]
 */
public record TrainedRows(Parameter values, int[] tokens, Tensor ids) {
    /** Index of a token's row in {@link #values}, or -1. */
    int indexOf(int token) {
        for (int i = 0; i < tokens.length; i++) {
            if (tokens[i] == token) {
                return i;
            }
        }
        return -1;
    }

    /** {@code y += x·(change of W)ᵀ}. */
    void forward(Tensor y, Tensor x, Weight w, Step step) {
        var ops = step.ops();
        Tensor columns = step.newTensor(x.rows(), tokens.length);
        ops.matmul(columns, x, false, difference(w, step), true, 1, 0);
        for (int k = 0; k < tokens.length; k++) {
            ops.add(y.cols(tokens[k], 1), columns.cols(k, 1), 1);
        }
    }

    /** Adds to dx, if it is not null, and to the rows' gradient. */
    void backward(@Nullable Tensor dx, Tensor dy, Tensor x, Weight w, Step step) {
        var ops = step.ops();
        Tensor columns = step.newTensor(x.rows(), tokens.length);
        for (int k = 0; k < tokens.length; k++) {
            ops.copy(columns.cols(k, 1), dy.cols(tokens[k], 1));
        }
        ops.matmul(values.gradient(), columns, true, x, false, 1, 1);
        if (dx != null) {
            ops.matmul(dx, columns, false, difference(w, step), false, 1, 1);
        }
    }

    private Tensor difference(Weight w, Step step) {
        Tensor frozen = step.newPrecise(tokens.length, w.cols());
        step.ops().embedding(frozen, ids, w);
        Tensor d = step.newPrecise(tokens.length, w.cols());
        step.ops().copy(d, values.value());
        step.ops().add(d, frozen, -1);
        return d;
    }
}
