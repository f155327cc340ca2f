package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.Collectors;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.tensor.DType;

/**
 * The supported values of {@code model_type}: how a family's config.json maps to {@link ModelConfig}. Defaults of
 * missing keys are those of transformers.
 */
public enum ModelFamily {
    LLAMA("llama", NormPlacement.PRE, QkNorm.NONE),
    MISTRAL("mistral", NormPlacement.PRE, QkNorm.NONE),
    QWEN2("qwen2", NormPlacement.PRE, QkNorm.NONE),
    QWEN3("qwen3", NormPlacement.PRE, QkNorm.PER_HEAD),
    QWEN3_MOE("qwen3_moe", NormPlacement.PRE, QkNorm.PER_HEAD),
    GEMMA2("gemma2", NormPlacement.SANDWICH, QkNorm.NONE),
    GEMMA3_TEXT("gemma3_text", NormPlacement.SANDWICH, QkNorm.PER_HEAD),
    PHI3("phi3", NormPlacement.PRE, QkNorm.NONE),
    SMOLLM3("smollm3", NormPlacement.PRE, QkNorm.NONE),
    OLMO2("olmo2", NormPlacement.POST, QkNorm.WHOLE_PROJECTION);

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

    private boolean isGemma() {
        return this == GEMMA2 || this == GEMMA3_TEXT;
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
        refuseWhatIsMissing(config);
        int hiddenSize = config.integer("hidden_size");
        int heads = config.integer("num_attention_heads");
        if (heads < 1) {
            throw new ModelFormatException(config.file(), "num_attention_heads must be at least 1, got " + heads);
        }
        int headDim = config.integer("head_dim", headDim(hiddenSize, heads));
        int rotaryDim = (int) (headDim * RopeJson.partialRotaryFactor(config));
        double scoreDim = isGemma() ? config.number("query_pre_attn_scalar", 256) : headDim;
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
                    rotaryDim,
                    config.integer("max_position_embeddings", 2048),
                    config.number("rms_norm_eps", this == PHI3 || this == OLMO2 ? 1e-5 : 1e-6),
                    norms,
                    isGemma(),
                    qkNorm,
                    this == QWEN2 || attentionBias,
                    this != QWEN2 && attentionBias,
                    (this == LLAMA || this == SMOLLM3) && config.bool("mlp_bias", false),
                    this == PHI3,
                    activation(config),
                    1 / Math.sqrt(scoreDim),
                    this == GEMMA2 ? config.number("attn_logit_softcapping", gemmaDefault(config, "attn", 50)) : 0,
                    isGemma() ? config.number("final_logit_softcapping", gemmaDefault(config, "final", 30)) : 0,
                    isGemma(),
                    config.bool("tie_word_embeddings", isGemma() || this == SMOLLM3),
                    LayersJson.read(this, config, rotaryDim),
                    dtype(config));
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(config.file(), String.valueOf(e.getMessage()), e);
        }
    }

    /** Gemma 2 has softcaps unless the file says null, Gemma 3 has none unless the file says one. */
    private double gemmaDefault(ConfigJson config, String which, double value) {
        return this == GEMMA2 && !config.names(which + "_logit_softcapping") ? value : 0;
    }

    private void refuseWhatIsMissing(ConfigJson config) {
        refuseUnless(config, "pretraining_tp", String.valueOf(config.integer("pretraining_tp", 1)), "1");
        for (String dropout : new String[] {"attention_dropout", "resid_pdrop", "embd_pdrop"}) {
            refuseUnless(config, dropout, String.valueOf(config.number(dropout, 0)), "0.0");
        }
        if (this != PHI3) {
            refuseUnless(config, "partial_rotary_factor", String.valueOf(RopeJson.partialRotaryFactor(config)), "1.0");
        }
        if (this == MISTRAL || this == PHI3) {
            refuseUnless(config, "attention_bias", String.valueOf(config.bool("attention_bias", false)), "false");
        }
        if (this == QWEN3_MOE) {
            // it would add the auxiliary loss to the training loss
            String routerLogits = "output_router_logits";
            refuseUnless(config, routerLogits, String.valueOf(config.bool(routerLogits, false)), "false");
        }
        String bidirectional = "use_bidirectional_attention";
        refuseUnless(config, bidirectional, String.valueOf(config.bool(bidirectional, false)), "false");
    }

    /** Where transformers' default is not the number of heads, a file without the key is refused. */
    private int keyValueHeads(ConfigJson config, int heads) {
        boolean mayBeMissing = this == LLAMA || this == PHI3 || this == OLMO2;
        return mayBeMissing || config.names("num_key_value_heads")
                ? config.integer("num_key_value_heads", heads)
                : config.integer("num_key_value_heads");
    }

    private int headDim(int hiddenSize, int heads) {
        return switch (this) {
            case QWEN3 -> 128;
            case GEMMA2, GEMMA3_TEXT -> 256;
            case LLAMA, MISTRAL, QWEN2, QWEN3_MOE, PHI3, SMOLLM3, OLMO2 -> hiddenSize / heads;
        };
    }

    private Activation activation(ConfigJson config) {
        String key = isGemma() ? "hidden_activation" : "hidden_act";
        String name = config.text(key, isGemma() ? "gelu_pytorch_tanh" : "silu");
        return switch (name) {
            case "silu", "swish" -> Activation.SILU;
            case "gelu_pytorch_tanh" -> Activation.GELU_TANH;
            default ->
                throw new UnsupportedModelException(config.file() + ": " + key + " '" + name
                        + "' is not supported; supported: silu, gelu_pytorch_tanh");
        };
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
