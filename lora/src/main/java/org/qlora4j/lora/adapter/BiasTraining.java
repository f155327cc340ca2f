package org.qlora4j.lora.adapter;

import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;

/** PEFT's {@code bias}: which biases of the base are trained beside LoRA. Without the adapter they are as they were. */
public enum BiasTraining {
    NONE,
    /** Those of every linear layer. */
    ALL,
    /** Those of the layers that have LoRA. */
    LORA_ONLY;

    /** The value in adapter_config.json. */
    public String peftName() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** @throws IllegalArgumentException for any other name */
    public static BiasTraining of(String name) {
        return Arrays.stream(values())
                .filter(b -> b.peftName().equals(name))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("bias '" + name + "' is not supported; supported: "
                        + Arrays.stream(values()).map(BiasTraining::peftName).collect(Collectors.joining(", "))));
    }
}
