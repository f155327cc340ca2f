package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The trained low-rank pair of one linear layer: {@code y += scale · (dropout(x)·Aᵀ)·Bᵀ}.
 *
 * @param a [rank, in features]
 * @param b [out features, rank]
 * @param scale α/r, or α/√r for rsLoRA
 * @param dropout probability that an element of the input of A is dropped in training, in [0, 1)
 * @param stream number that sets this layer's dropout masks apart from all others
 * @param magnitude DoRA's; null for plain LoRA
 * @param bias [1, out features], PEFT's {@code lora_bias}: added to the product with B before scaling; usually null
 * @see <a href="https://arxiv.org/abs/2106.09685">Hu et al. 2021</a>
 */
public record LoraWeights(
        Parameter a,
        Parameter b,
        double scale,
        double dropout,
        int stream,
        @Nullable Magnitude magnitude,
        @Nullable Parameter bias) {
    /**
     * DoRA's trained row lengths and what is computed from them at the start of each pass.
     *
     * @param m [1, out features]
     * @param inverseNorms [1, out features]: 1 / ‖W + s·B·A‖ of each row
     * @param factors [1, out features]: m ⊙ inverseNorms
     * @see <a href="https://arxiv.org/abs/2402.09353">Liu et al. 2024</a>
     */
    public record Magnitude(Parameter m, Tensor inverseNorms, Tensor factors) {}

    /** Rank r. */
    public int rank() {
        return b.value().cols();
    }
}
