package org.qlora4j.lora.model;

import org.qlora4j.nf4.tensor.Parameter;

/**
 * The trained low-rank pair of one linear layer: {@code y += scale · (dropout(x)·Aᵀ)·Bᵀ}.
 *
 * @param a [rank, in features]
 * @param b [out features, rank]
 * @param scale α/r, or α/√r for rsLoRA
 * @param dropout probability that an element of the input of A is dropped in training, in [0, 1)
 * @param stream number that sets this layer's dropout masks apart from all others
 * @see <a href="https://arxiv.org/abs/2106.09685">Hu et al. 2021</a>
 */
public record LoraWeights(Parameter a, Parameter b, double scale, double dropout, int stream) {
    /** Rank r. */
    public int rank() {
        return a.value().rows();
    }
}
