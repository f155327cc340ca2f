package org.qlora4j.lora.hub;

/** Where models and data sets with ids like {@code Qwen/Qwen3-0.6B} live. */
public enum Hub {
    HUGGING_FACE,
    MODELSCOPE
}
