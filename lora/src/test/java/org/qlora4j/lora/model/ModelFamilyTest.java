package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.nf4.file.ModelFormatException;

/** What a config.json may say, in both spellings, and what is refused. */
class ModelFamilyTest {
    private static final Path FILE = Path.of("config.json");

    static Set<String> cases() throws IOException {
        return GoldenCase.names();
    }

    /** Without the 4-bit variants, whose files have another dtype. */
    static List<String> bases() throws IOException {
        List<String> bases = new ArrayList<>();
        for (String name : cases()) {
            if (Files.exists(GoldenCase.open(name).folder().resolve("config_v4.json"))) {
                bases.add(name);
            }
        }
        return bases;
    }

    @ParameterizedTest
    @MethodSource("bases")
    void transformersFourAndFiveSayTheSame(String name) throws IOException {
        GoldenCase c = GoldenCase.open(name);
        Path five = c.base().resolve("config.json");
        Path four = c.shared().resolve("config_v4.json");
        assertEquals(
                ModelFamily.read(five, ModelSource.readObject(five)),
                ModelFamily.read(four, ModelSource.readObject(four)));
    }

    @Test
    void everyFamilyHasAGoldenCase() throws IOException {
        List<String> types = cases().stream()
                .map(name -> {
                    try {
                        return GoldenCase.open(name).base().resolve("config.json");
                    } catch (IOException e) {
                        throw new AssertionError(e);
                    }
                })
                .map(file -> ModelSource.readObject(file).path("model_type").textValue())
                .toList();
        Arrays.stream(ModelFamily.values())
                .forEach(family -> assertTrue(types.contains(family.modelType()), family.modelType()));
    }

    private static ObjectNode config(String family, String changes) throws IOException {
        ObjectNode config = (ObjectNode) GoldenCase.JSON.readTree("""
                {"model_type": "%s", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12,
                 "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6,
                 "max_position_embeddings": 64}
                """.formatted(family));
        JsonNode more = GoldenCase.JSON.readTree("{" + changes + "}");
        more.properties().forEach(e -> config.set(e.getKey(), e.getValue()));
        return config;
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
                    mamba  |                                                   | model_type 'mamba'
                    llama  | "hidden_act": "relu"                              | hidden_act 'relu'
                    gemma2 | "hidden_activation": "gelu"                       | hidden_activation 'gelu'
                    gemma2 | "use_bidirectional_attention": true               | use_bidirectional_attention true
                    gemma2 | "sliding_window": null                            | without a sliding_window
                    phi3   | "resid_pdrop": 0.1                                | resid_pdrop 0.1
                    phi3   | "attention_bias": true                            | attention_bias true
                    qwen2  | "layer_types": ["a", "b", "c", "d"]               | layer type 'a'
                    qwen3  | "layer_types": ["sliding_attention", "full_attention", "full_attention", "full_attention"] | without a sliding_window
                    llama  | "pretraining_tp": 2                               | pretraining_tp 2
                    llama  | "attention_dropout": 0.1                          | attention_dropout 0.1
                    llama  | "partial_rotary_factor": 0.5                      | partial_rotary_factor 0.5
                    llama  | "rope_scaling": {"type": "ntk", "factor": 2}      | rope_type 'ntk'
                    qwen3_moe | "output_router_logits": true                   | output_router_logits true
                    qwen3  | "rope_parameters": {"full_attention": {}}         | rope parameters for each layer type
                    """)
    void whatIsNotImplementedIsRefusedByName(String family, String changes, String message) throws IOException {
        ObjectNode config = config(family, changes == null ? "" : changes);
        String found = assertThrows(UnsupportedModelException.class, () -> ModelFamily.read(FILE, config))
                .getMessage();
        assertTrue(found.contains(message) && found.contains("not supported"), found);
    }

    private static List<Integer> windows(String family, String changes) throws IOException {
        return ModelFamily.read(FILE, config(family, changes)).layers().stream()
                .map(LayerConfig::slidingWindow)
                .toList();
    }

    @Test
    void eachFamilyHasItsRuleForWindows() throws IOException {
        assertEquals(List.of(0, 0, 0, 0), windows("llama", "\"sliding_window\": 9"));
        assertEquals(List.of(4096, 4096, 4096, 4096), windows("mistral", ""));
        assertEquals(List.of(0, 0, 0, 0), windows("mistral", "\"sliding_window\": null"));
        assertEquals(List.of(9, 9, 9, 9), windows("phi3", "\"sliding_window\": 9"));
        assertEquals(List.of(0, 0, 0, 0), windows("qwen3", "\"sliding_window\": 9, \"max_window_layers\": 1"));
        String use = "\"sliding_window\": 9, \"use_sliding_window\": true";
        assertEquals(List.of(0, 9, 9, 9), windows("qwen3", use + ", \"max_window_layers\": 1"));
        assertEquals(List.of(0, 0, 0, 0), windows("qwen2", use));
        assertEquals(List.of(9, 0, 9, 0), windows("gemma2", use));
        assertEquals(List.of(9, 9, 9, 9), windows("gemma3_text", use));
        assertEquals(List.of(9, 0, 9, 0), windows("gemma3_text", use + ", \"sliding_window_pattern\": 2"));
        assertEquals(List.of(0, 0, 0, 9), windows("smollm3", use));
        assertEquals(List.of(9, 0, 0, 9), windows("smollm3", use + ", \"no_rope_layers\": [0, 1, 1, 0]"));
        assertEquals(
                List.of(0, 9, 0, 0),
                windows(
                        "smollm3",
                        use
                                + ", \"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\","
                                + " \"full_attention\"]"));
    }

    private static List<Boolean> mixtures(String changes) throws IOException {
        return ModelFamily.read(FILE, config("qwen3_moe", changes)).layers().stream()
                .map(layer -> layer.experts() != null)
                .toList();
    }

    @Test
    void mixturesOfExperts() throws IOException {
        assertEquals(
                new ExpertsConfig(128, 8, 768, false),
                ModelFamily.read(FILE, config("qwen3_moe", ""))
                        .layers()
                        .getFirst()
                        .experts());
        assertEquals(List.of(true, true, true, true), mixtures("\"mlp_only_layers\": null"));
        assertEquals(List.of(false, true, false, true), mixtures("\"decoder_sparse_step\": 2"));
        assertEquals(
                List.of(false, true, false, false),
                mixtures("\"decoder_sparse_step\": 2, \"mlp_only_layers\": [3, 9]"));
        assertEquals(List.of(false, false, false, false), mixtures("\"num_experts\": 0"));
        assertEquals(List.of(9, 9, 9, 9), windows("qwen3_moe", "\"sliding_window\": 9, \"use_sliding_window\": true"));
        assertEquals(List.of(0, 0, 0, 0), windows("qwen3_moe", "\"sliding_window\": 9"));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
                    "num_experts_per_tok": 5, "num_experts": 4 | num_experts_per_tok must be in 1 … 4, got 5
                    "num_local_experts": 5000                  | num_experts must be in 1 … 4096, got 5000
                    "moe_intermediate_size": 0                 | moe_intermediate_size must be in
                    "decoder_sparse_step": 0                   | 'decoder_sparse_step' must be at least 1
                    "mlp_only_layers": "all"                   | 'mlp_only_layers' must be a list of integers
                    """)
    void damagedMixturesAreNamed(String changes, String message) throws IOException {
        ObjectNode config = config("qwen3_moe", changes);
        String found = assertThrows(ModelFormatException.class, () -> ModelFamily.read(FILE, config))
                .getMessage();
        assertTrue(found.contains(message), found);
    }

    private static RopeScaling rope(String changes) throws IOException {
        RopeScaling rope = ModelFamily.read(FILE, config("qwen3", changes))
                .layers()
                .getFirst()
                .rope();
        assertTrue(rope != null);
        return rope;
    }

    @Test
    void yarnReadsEveryKey() throws IOException {
        assertEquals(new RopeScaling.Yarn(5000, 4, 0.1 * Math.log(4) + 1, 32, 1, 16, true), rope("""
                        "rope_theta": 5000, "rope_scaling": {"type": "yarn", "factor": 4, "beta_fast": 0,
                         "original_max_position_embeddings": 16}
                        """));
        assertEquals(
                new RopeScaling.Yarn(
                        10000, 4, (0.1 * 2 * Math.log(4) + 1) / (0.1 * 0.5 * Math.log(4) + 1), 16, 2, 64, false),
                rope("""
                        "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16, "beta_slow": 2,
                         "mscale": 2.0, "mscale_all_dim": 0.5, "truncate": false}
                        """));
        assertEquals(1.5, rope("""
                                "rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 16,
                                 "attention_factor": 1.5}
                                """).attentionFactor());
    }

    @Test
    void yarnWithoutAFactorTakesTheRatioOfTheLengths() throws IOException {
        assertEquals(
                0.1 * Math.log(4) + 1,
                rope("\"rope_scaling\": {\"rope_type\": \"yarn\", \"original_max_position_embeddings\": 16}")
                        .attentionFactor());
    }
}
