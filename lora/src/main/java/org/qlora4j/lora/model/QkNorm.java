package org.qlora4j.lora.model;

/** RMS norms on queries and keys, before the rotary embedding. */
public enum QkNorm {
    NONE,
    /** Over the elements of each head: Qwen3, Gemma 3. */
    PER_HEAD,
    /** Over all heads of a token at once: OLMo 2. */
    WHOLE_PROJECTION
}
