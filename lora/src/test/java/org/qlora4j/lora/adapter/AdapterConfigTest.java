package org.qlora4j.lora.adapter;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.lora.adapter.GoldenModel.GOLDEN;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.ModelFormatException;

/** adapter_config.json: what is read, kept, and refused with which reason. */
class AdapterConfigTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path folder;

    private ObjectNode json;

    @BeforeEach
    void read() throws IOException {
        json = (ObjectNode) JSON.readTree(
                GOLDEN.resolve("adapters/combine_a/adapter_config.json").toFile());
    }

    private LoraConfig config() throws IOException {
        Files.writeString(folder.resolve(AdapterFiles.CONFIG), json.toString());
        return AdapterFiles.readConfig(folder);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "alora_invocation_tokens | [1, 2] | (activated LoRA works from a token of the text on only)",
                "arrow_config | {\"top_k\": 3} | (Arrow routes between adapters)",
                "kasa_config | {\"x\": 1} | (KaSA cuts singular values off the base and trains others)",
                "layer_replication | [[0, 2]] | (the base would get other layers)",
                "monteclora_config | {\"x\": 1} | (MonteCLoRA samples its weights)",
                "target_parameters | [\"mlp.experts.gate_up_proj\"] | (LoRA lies on linear layers and the embedding here)",
                "use_bdlora | {\"nblocks\": 2} | (block-diagonal LoRA has other matrices)",
                "use_qalora | true | (QALoRA pools the input of A)",
                "bias | \"some\" | bias 'some' is not supported; supported: none, all, lora_only",
                "init_lora_weights | \"corda\" | (the adapter fits a changed base only)",
                "peft_type | \"ADALORA\" | supported: LORA",
                "r | 0 | lora_rank must be in 1",
                "lora_alpha | -1 | lora_alpha must be positive",
                "layers_to_transform | \"1\" | layers_to_transform must be an integer or a list of them",
                "layers_pattern | \"layers\" | layers_pattern needs layers_to_transform",
                "trainable_token_indices | [1, 1] | must be different ids",
                "trainable_token_indices | 3 | must be a list of ids",
                "rank_pattern | [4] | rank_pattern must be an object",
                "alpha_pattern | {\"q_proj\": \"4\"} | alpha_pattern of 'q_proj' must be a number",
                "target_modules | \"(\" | is not a regular expression",
                "modules_to_save | [1] | expected a name or a list of names"
            })
    void isRefusedWithTheReason(String key, String value, String reason) throws IOException {
        json.set(key, JSON.readTree(value));
        String message = assertThrows(ModelFormatException.class, this::config).getMessage();
        assertTrue(message.contains(reason), message);
    }

    @Test
    void whatChangesNothingHereIsRead() throws IOException {
        json.put("fan_in_fan_out", true);
        json.put("qalora_group_size", 8);
        json.put("megatron_core", "other.core");
        json.set("loftq_config", JSON.readTree("{}"));
        json.set("velora_config", JSON.readTree("{\"rank\": 1}"));
        json.put("init_lora_weights", "eva");
        json.put("layers_to_transform", 1);
        json.put("layers_pattern", "layers");
        LoraConfig config = config();
        assertEquals("eva", config.initWeights().peftName());
        assertEquals(List.of(1), config.layersToTransform());
        assertEquals(List.of("layers"), config.layersPattern());
    }

    @Test
    void aFileWithoutMostKeysHasPeftsDefaults() throws IOException {
        json.removeAll();
        json.put("peft_type", "LORA");
        json.put("r", 8);
        json.put("lora_alpha", 16);
        LoraConfig config = config();
        assertEquals(new ModuleSelector.Names(Set.of("q_proj", "v_proj")), config.targetModules());
        assertEquals(InitWeights.TRUE, config.initWeights());
        assertEquals(2, config.scale("model.layers.0.self_attn.q_proj"));
    }

    @Test
    void unknownKeysAreWrittenBack() throws IOException {
        json.set("of_a_later_peft", JSON.readTree("{\"a\": [1, null]}"));
        json.put("revision", "abc");
        json.put("task_type", "SEQ_CLS");
        json.put("inference_mode", false);
        json.put("peft_version", "0.99.0");
        LoraConfig config = config();
        Path saved = Files.createDirectories(folder.resolve("saved"));
        try (Device device = Devices.open("reference", 1);
                Transformer model = GoldenModel.of("llama_tied").load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, config, 1)) {
            AdapterFiles.save(adapter, "base", saved);
        }
        JsonNode found = JSON.readTree(saved.resolve(AdapterFiles.CONFIG).toFile());
        for (String key : List.of("of_a_later_peft", "revision", "task_type", "inference_mode", "peft_version")) {
            assertEquals(json.get(key), found.get(key), key);
        }
    }

    @Test
    void patternsTakeTheFirstMatchAsPeftDoes() {
        LoraConfig config = LoraConfig.builder(8, 16)
                .rankPattern(Map.of("layers\\.[01]\\.self_attn.q_proj", 2))
                .alphaPattern(Map.of("self_attn.q_proj", 5.0))
                .build();
        assertEquals(2, config.rank("model.layers.1.self_attn.q_proj"));
        assertEquals(8, config.rank("model.layers.11.self_attn.q_proj"), "a key starts at a dot");
        assertEquals(2.5, config.scale("model.layers.0.self_attn.q_proj"));
        assertEquals(5.0 / 8, config.scale("model.layers.2.self_attn.q_proj"));
        assertEquals(2, config.scale("model.layers.2.self_attn.q_proj_extra"));
    }
}
