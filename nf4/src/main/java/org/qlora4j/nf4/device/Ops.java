package org.qlora4j.nf4.device;

import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * The operations two devices need different code for; everything else is written with them.
 *
 * <p>Results come first. Letters: N tokens (rows), C hidden size, H heads, D head size, V vocabulary. "Float" tensors
 * have the device's {@link Device#floatType}, "precise" ones its {@link Device#preciseType}, "either" one of the two.
 * Where operands of a product differ in type, the precise one is rounded to the floating point type first. <b>Parameter
 * gradients add, activation gradients overwrite unless {@code beta} says otherwise.</b> With {@code beta} 0 the old
 * content is not read (it may be NaN). A result may be one of the inputs only where it says so.
 */
public interface Ops {
    /**
     * {@code out = alpha · op(a) · op(b) + beta · out}; op transposes if asked.
     *
     * @param out either [M, N]
     * @param a either [M, K], or [K, M] if {@code transA}
     * @param b either [K, N], or [N, K] if {@code transB}
     */
    void matmul(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, double alpha, double beta);

    /**
     * {@code out = x · Wᵀ + beta · out} if {@code transW} (forward), else {@code out = x · W + beta · out} (input
     * gradient).
     *
     * @param out either [N, W.rows] if {@code transW}, else [N, W.cols]
     * @param x either; with a precise result the product is computed precisely [N, W.cols] if {@code transW}, else [N,
     *     W.rows]
     */
    void matmul(Tensor out, Tensor x, Weight w, boolean transW, double beta);

    /** The weight's values. @param out either [W.rows, W.cols] */
    void dequantize(Tensor out, Weight w);

    /** {@code out[i] = table[ids[i]]}. @param out either [N, C] @param ids I32 [1, N] @param table [V, C] */
    void embedding(Tensor out, Tensor ids, Weight table);

    /**
     * {@code dTable[ids[i]] += dOut[i]}, in the order of i; an id may come more than once.
     *
     * @param dTable either [V, C]
     * @param ids I32 [1, N]
     * @param dOut float [N, C]
     */
    void embeddingBackward(Tensor dTable, Tensor ids, Tensor dOut);

    /** {@code out[i] = x[rows[i]]}. @param out either [L, C] @param x of the same type [N, C] @param rows I32 [1, L] */
    void gatherRows(Tensor out, Tensor x, Tensor rows);

    /**
     * {@code out[rows[i]] = x[i]}, all other rows 0; no row twice. @param out either [N, C] @param x of the same type
     * [L, C]
     */
    void scatterRows(Tensor out, Tensor x, Tensor rows);

    /**
     * {@code y = x · rstd ⊙ weight} with {@code rstd = 1/√(mean(x²) + eps)} of each row.
     *
     * @param y float [N, C]; may be x
     * @param rstd precise [1, N], kept for backward
     * @param x float [N, C]
     * @param weight precise [1, C]
     * @see <a href="https://arxiv.org/abs/1910.07467">Zhang and Sennrich 2019</a>
     */
    void rmsNorm(Tensor y, Tensor rstd, Tensor x, Tensor weight, double eps);

    /**
     * {@code dx = beta·dx + rstd·(g − n·mean(g ⊙ n))} with {@code g = dy ⊙ weight, n = x·rstd}. The weight is frozen.
     *
     * @param dx float [N, C]; not dy
     */
    void rmsNormBackward(Tensor dx, Tensor dy, Tensor x, Tensor rstd, Tensor weight, double beta);

    /**
     * Rotary embedding in place, halves not interleaved: within the first R elements of each head {@code (a, b) →
     * (a·cos − b·sin, b·cos + a·sin)} where a is the first and b the second half of them. The inverse (also its
     * gradient) turns the other way.
     *
     * @param x float [N, heads · headDim]
     * @param cos precise [positions, R/2], R up to headDim
     * @param sin precise [positions, R/2]
     * @param positions I32 [1, N], each below the rows of cos
     */
    void rope(Tensor x, Tensor cos, Tensor sin, Tensor positions, int headDim, boolean inverse);

    /**
     * Causal softmax attention of each head h over key/value head {@code h / (H/Hkv)}.
     *
     * @param out float [queries, H·D]
     * @param logSumExp precise [H, queries], the logarithm of each softmax's denominator, kept for backward
     * @param q float [queries, H·D]
     * @param k float [keys, Hkv·D]
     * @param v float [keys, Hkv·D]
     */
    void attention(Tensor out, Tensor logSumExp, Tensor q, Tensor k, Tensor v, AttentionShape shape);

    /** Gradients of {@link #attention}; queries and keys must be equally many. Overwrites dq, dk, dv. */
    void attentionBackward(
            Tensor dq,
            Tensor dk,
            Tensor dv,
            Tensor dOut,
            Tensor out,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v,
            AttentionShape shape);

    /** {@code y = silu(gate) ⊙ up}, {@code silu(g) = g / (1 + e^-g)}; y may be gate or up. All float [N, F]. */
    void swiGlu(Tensor y, Tensor gate, Tensor up);

    /** Gradients of {@link #swiGlu}; dGate and dUp may be gate and up themselves, or dGate may be dy. */
    void swiGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up);

    /**
     * {@code y = gelu(gate) ⊙ up}, {@code gelu(g) = g/2 · (1 + tanh(√(2/π)·(g + 0.044715·g³)))}; y may be gate or up.
     * All float [N, F].
     *
     * @see <a href="https://arxiv.org/abs/1606.08415">Hendrycks and Gimpel 2016</a>
     */
    void geGlu(Tensor y, Tensor gate, Tensor up);

    /** Gradients of {@link #geGlu}; dGate and dUp may be gate and up themselves, or dGate may be dy. */
    void geGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up);

    /** {@code y = cap · tanh(x / cap)}; y may be x. Float [N, C]. @param cap above 0 */
    void softcap(Tensor y, Tensor x, double cap);

    /** {@code dx = dy ⊙ (1 − (y/cap)²)}, the gradient of {@link #softcap}; dx may be dy. @param y its result */
    void softcapBackward(Tensor dx, Tensor dy, Tensor y, double cap);

    /** {@code y = x}; same shape, float types may differ (a cast). */
    void copy(Tensor y, Tensor x);

    /** {@code y += alpha · x}. @param y either @param x either */
    void add(Tensor y, Tensor x, double alpha);

    /** {@code y[i] += bias} for each row. @param y either [N, C] @param bias precise [1, C] */
    void addBias(Tensor y, Tensor bias);

    /**
     * {@code y = beta · y + x ⊙ scale} for each row; y may be x.
     *
     * @param y either [N, C]
     * @param x of the same type
     * @param scale precise [1, C]
     */
    void scaleColumns(Tensor y, Tensor x, Tensor scale, double beta);

    /**
     * {@code out[j] += Σ_i a[i, j] · b[i, j]}. @param out precise [1, C] @param a float [N, C] @param b float [N, C]
     */
    void columnDots(Tensor out, Tensor a, Tensor b);

    /**
     * {@code out[o] = 1 / ‖W[o] + scale · b[o] · a‖₂}, the reciprocal lengths of an adapted weight's rows; 0 for a row
     * of zeros.
     *
     * @param out precise [1, W.rows]
     * @param a precise [r, W.cols]
     * @param b precise [W.rows, r]
     */
    void inverseRowNorms(Tensor out, Weight w, Tensor a, Tensor b, double scale);

    /** {@code y[i] = scale[i] · x[i]} for each row; y may be x. @param y float [N, C] @param scale precise [1, N] */
    void scaleRows(Tensor y, Tensor x, Tensor scale);

    /** {@code out[i] = Σ_j a[i, j] · b[i, j]}. @param out precise [1, N] @param a float [N, C] @param b float [N, C] */
    void rowDots(Tensor out, Tensor a, Tensor b);

    /**
     * A router's choice: the k largest of each row's probabilities, largest first; of equal ones the first.
     *
     * @param weights precise [N, k]: their probabilities, divided by their sum if {@code normalize}
     * @param chosen I32 [1, N·k]: their columns, row after row
     * @param logits precise [N, E], E at least k; becomes its softmax
     * @see <a href="https://arxiv.org/abs/2101.03961">Fedus et al. 2021, section 2</a>
     */
    void topKSoftmax(Tensor weights, Tensor chosen, Tensor logits, boolean normalize);

    /**
     * Gradient of {@link #topKSoftmax} with its choice as a constant.
     *
     * @param dLogits precise [N, E]; may be probabilities
     * @param dWeights precise [N, k]
     * @param weights as the forward gave them
     * @param chosen as the forward gave it
     * @param probabilities precise [N, E]: what the forward made of its logits
     */
    void topKSoftmaxBackward(
            Tensor dLogits, Tensor dWeights, Tensor weights, Tensor chosen, Tensor probabilities, boolean normalize);

    /** Every element becomes {@code value}. @param y either */
    void fill(Tensor y, double value);

    /**
     * {@code y = x/(1−p)} where element (i, j) is kept, else 0. Kept if {@code Dropout.keeps(seed, i·cols + j,
     * threshold(p))} (see {@link Dropout}): the mask is a function of the seed and the index, so backward makes it
     * again. y may be x.
     */
    void dropout(Tensor y, Tensor x, double p, long seed);

    /**
     * Loss of each row and, in place, its gradient. With smoothing s the target is {@code (1−s)·onehot + s/V}.
     *
     * @param losses precise [1, L]: {@code log Σ e^logits − target·logits}
     * @param correct precise [1, L]: 1 if no logit is above the label's, else 0
     * @param logits float [L, V]; becomes {@code gradientScale · (softmax − target)} unless gradientScale is 0
     * @param labels I32 [1, L], each in [0, V)
     * @param smoothing in [0, 1)
     * @see <a href="https://arxiv.org/abs/1512.00567">Szegedy et al. 2015, section 7</a>
     */
    void crossEntropy(
            Tensor losses, Tensor correct, Tensor logits, Tensor labels, double gradientScale, double smoothing);

    /** {@code Σ x²} in double, in a fixed order. @param x either */
    double sumOfSquares(Tensor x);

    /**
     * One optimizer step on all elements; gradients must be finite.
     *
     * @param p precise [1, n], changed
     * @param g precise [1, n]
     * @param state of n parameters, changed
     */
    void optimizerStep(Tensor p, Tensor g, OptimizerState state, OptimizerStep step);
}
