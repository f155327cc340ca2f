package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;

/** Where the RMS norms of a layer stand, and what Hugging Face calls them there. */
public enum NormPlacement {
    /** {@code x + f(norm(x))}: Llama and most others. */
    PRE("input_layernorm", null, "post_attention_layernorm", null),
    /** {@code x + norm(f(norm(x)))}: Gemma 2 and 3. */
    SANDWICH("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    /** {@code x + norm(f(x))}: OLMo 2. */
    POST(null, "post_attention_layernorm", null, "post_feedforward_layernorm");

    final @Nullable String attentionInput;
    final @Nullable String attentionOutput;
    final @Nullable String mlpInput;
    final @Nullable String mlpOutput;

    NormPlacement(
            @Nullable String attentionInput,
            @Nullable String attentionOutput,
            @Nullable String mlpInput,
            @Nullable String mlpOutput) {
        this.attentionInput = attentionInput;
        this.attentionOutput = attentionOutput;
        this.mlpInput = mlpInput;
        this.mlpOutput = mlpOutput;
    }
}
