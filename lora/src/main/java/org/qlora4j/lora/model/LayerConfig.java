package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;

/**
 * What may differ from layer to layer.
 *
 * @param slidingWindow a query sees so many keys, itself included; 0 for all before it
 * @param rope rotary frequencies; null for a layer without position embedding (NoPE)
 * @param experts of its feed-forward half; null for one block of {@code intermediate_size}
 */
public record LayerConfig(
        int slidingWindow,
        @Nullable RopeScaling rope,
        @Nullable ExpertsConfig experts) {
    public LayerConfig {
        if (slidingWindow < 0) {
            throw new IllegalArgumentException("sliding_window must be at least 1, got " + slidingWindow);
        }
    }
}
