package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.tensor.DType;

/** The supported values of {@code model_type}: how a family's config.json maps to {@link ModelConfig}. */
public enum ModelFamily {
    LLAMA("llama", NormPlacement.PRE, QkNorm.NONE),
    QWEN3("qwen3", NormPlacement.PRE, QkNorm.PER_HEAD);

    private final String modelType;
    private final NormPlacement norms;
    private final QkNorm qkNorm;

    ModelFamily(String modelType, NormPlacement norms, QkNorm qkNorm) {
        this.modelType = modelType;
        this.norms = norms;
        this.qkNorm = qkNorm;
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
        refuseUnless(config, "pretraining_tp", String.valueOf(config.integer("pretraining_tp", 1)), "1");
        refuseUnless(config, "attention_dropout", String.valueOf(config.number("attention_dropout", 0)), "0.0");
        refuseUnless(config, "partial_rotary_factor", String.valueOf(RopeJson.partialRotaryFactor(config)), "1.0");
        int hiddenSize = config.integer("hidden_size");
        int heads = config.integer("num_attention_heads");
        if (heads < 1) {
            throw new ModelFormatException(config.file(), "num_attention_heads must be at least 1, got " + heads);
        }
        int headDim = headDim(config, hiddenSize, heads);
        boolean attentionBias = config.bool("attention_bias", false);
        try {
            return new ModelConfig(
                    modelType,
                    config.integer("vocab_size"),
                    hiddenSize,
                    config.integer("intermediate_size"),
                    heads,
                    keyValueHeads(config, heads),
                    headDim,
                    headDim,
                    config.integer("max_position_embeddings", 2048),
                    config.number("rms_norm_eps", 1e-6),
                    norms,
                    false,
                    qkNorm,
                    attentionBias,
                    attentionBias,
                    config.bool("mlp_bias", false),
                    false,
                    activation(config),
                    1 / Math.sqrt(headDim),
                    config.bool("tie_word_embeddings", false),
                    layers(config, headDim),
                    dtype(config));
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(config.file(), String.valueOf(e.getMessage()), e);
        }
    }

    /**
     * transformers' default for a file without the key differs; where it is not the number of heads, it is asked for.
     */
    private int keyValueHeads(ConfigJson config, int heads) {
        boolean mayBeMissing = this == LLAMA || config.names("num_key_value_heads");
        return mayBeMissing ? config.integer("num_key_value_heads", heads) : config.integer("num_key_value_heads");
    }

    private int headDim(ConfigJson config, int hiddenSize, int heads) {
        int otherwise = switch (this) {
            case LLAMA -> hiddenSize / heads;
            case QWEN3 -> 128;
        };
        return config.integer("head_dim", otherwise);
    }

    private static Activation activation(ConfigJson config) {
        refuseUnless(config, "hidden_act", config.text("hidden_act", "silu"), "silu");
        return Activation.SILU;
    }

    private List<LayerConfig> layers(ConfigJson config, int rotaryDim) {
        int count = config.integer("num_hidden_layers");
        if (count < 1 || count > ModelConfig.MAX_LAYERS) {
            throw new ModelFormatException(
                    config.file(), "num_hidden_layers must be in 1 … " + ModelConfig.MAX_LAYERS + ", got " + count);
        }
        if (this == QWEN3) {
            refuseUnless(
                    config, "use_sliding_window", String.valueOf(config.bool("use_sliding_window", false)), "false");
        }
        LayerConfig layer = new LayerConfig(0, RopeJson.read(config, 10000, rotaryDim));
        List<LayerConfig> layers = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            layers.add(layer);
        }
        return layers;
    }

    private static DType dtype(ConfigJson config) {
        // transformers 5 writes dtype, transformers 4 torch_dtype
        return DType.ofTorchName(config.text("dtype", config.text("torch_dtype", "float32")));
    }

    private static void refuseUnless(ConfigJson config, String key, String found, String supported) {
        if (!found.equals(supported)) {
            throw new UnsupportedModelException(
                    config.file() + ": " + key + " " + found + " is not supported; supported: " + supported);
        }
    }
}
