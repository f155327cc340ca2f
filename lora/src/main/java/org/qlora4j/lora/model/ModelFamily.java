package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Collectors;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.tensor.DType;

/** The supported values of {@code model_type}: how a family's config.json maps to {@link ModelConfig}. */
public enum ModelFamily {
    LLAMA("llama");

    private final String modelType;

    ModelFamily(String modelType) {
        this.modelType = modelType;
    }

    /** The value of {@code model_type}. */
    public String modelType() {
        return modelType;
    }

    /**
     * Reads config.json in the spelling of transformers 4 or 5.
     *
     * @param file named in messages
     * @param json the parsed file
     * @throws UnsupportedModelException if the family, or a value of a known key, is not implemented
     * @throws ModelFormatException if a key is missing or has the wrong type
     */
    public static ModelConfig read(Path file, JsonNode json) {
        ConfigJson config = new ConfigJson(file, json);
        String type = config.text("model_type", "");
        ModelFamily family = Arrays.stream(values())
                .filter(f -> f.modelType.equals(type))
                .findFirst()
                .orElseThrow(() -> new UnsupportedModelException(file + ": model_type '" + type
                        + "' is not supported; supported: "
                        + Arrays.stream(values()).map(ModelFamily::modelType).collect(Collectors.joining(", "))));
        return family.config(config);
    }

    private ModelConfig config(ConfigJson config) {
        refuseUnless(config, "hidden_act", config.text("hidden_act", "silu"), "silu");
        refuseUnless(config, "pretraining_tp", String.valueOf(config.integer("pretraining_tp", 1)), "1");
        refuseUnless(config, "attention_dropout", String.valueOf(config.number("attention_dropout", 0)), "0.0");
        refuseUnless(config, "partial_rotary_factor", String.valueOf(config.number("partial_rotary_factor", 1)), "1.0");
        int hiddenSize = config.integer("hidden_size");
        int heads = config.integer("num_attention_heads");
        if (heads < 1) {
            throw new ModelFormatException(config.file(), "num_attention_heads must be at least 1, got " + heads);
        }
        try {
            return new ModelConfig(
                    modelType,
                    config.integer("vocab_size"),
                    hiddenSize,
                    config.integer("intermediate_size"),
                    config.integer("num_hidden_layers"),
                    heads,
                    config.integer("num_key_value_heads", heads),
                    config.integer("head_dim", hiddenSize / heads),
                    config.integer("max_position_embeddings", 2048),
                    config.number("rms_norm_eps", 1e-6),
                    rope(config),
                    config.bool("attention_bias", false),
                    config.bool("mlp_bias", false),
                    config.bool("tie_word_embeddings", false),
                    dtype(config));
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(config.file(), String.valueOf(e.getMessage()), e);
        }
    }

    private static DType dtype(ConfigJson config) {
        // transformers 5 writes dtype, transformers 4 torch_dtype
        return DType.ofTorchName(config.text("dtype", config.text("torch_dtype", "float32")));
    }

    /**
     * transformers 5: all in rope_parameters; transformers 4: rope_theta, and rope_scaling with "rope_type" or "type".
     */
    private static RopeScaling rope(ConfigJson config) {
        boolean v5 = config.has("rope_parameters");
        ConfigJson rope = config.object(v5 ? "rope_parameters" : "rope_scaling");
        double theta = rope.number("rope_theta", config.number("rope_theta", 10000));
        String type = rope.text("rope_type", rope.text("type", "default"));
        return switch (type) {
            case "default" -> new RopeScaling.Plain(theta);
            case "linear" -> new RopeScaling.Linear(theta, positive(rope, "factor"));
            case "llama3" ->
                new RopeScaling.Llama3(
                        theta,
                        positive(rope, "factor"),
                        positive(rope, "low_freq_factor"),
                        positive(rope, "high_freq_factor"),
                        positive(rope, "original_max_position_embeddings"));
            default ->
                throw new UnsupportedModelException(config.file() + ": rope_type '" + type
                        + "' is not supported; supported: default, linear, llama3");
        };
    }

    private static double positive(ConfigJson rope, String key) {
        double value = rope.number(key);
        if (!(value > 0)) {
            throw new ModelFormatException(rope.file(), "'" + key + "' must be positive, found " + value);
        }
        return value;
    }

    private static void refuseUnless(ConfigJson config, String key, String found, String supported) {
        if (!found.equals(supported)) {
            throw new UnsupportedModelException(
                    config.file() + ": " + key + " " + found + " is not supported; supported: " + supported);
        }
    }
}
