package org.qlora4j.lora.model;

/** {@code hidden_act} of the gated feed-forward block. */
public enum Activation {
    /** {@code x · sigmoid(x)}. */
    SILU
}
