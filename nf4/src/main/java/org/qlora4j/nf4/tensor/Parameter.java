package org.qlora4j.nf4.tensor;

/**
 * A trained matrix with its gradient, both views into the flat buffers of {@link FlatParameters}.
 *
 * @param name the name it has in a file, e.g. {@code model.layers.0.self_attn.q_proj.lora_A.weight}
 * @param value [rows, cols]
 * @param gradient [rows, cols]; backward adds to it
 */
public record Parameter(String name, Tensor value, Tensor gradient) {}
