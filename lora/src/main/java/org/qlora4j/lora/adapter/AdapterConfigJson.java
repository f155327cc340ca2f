package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.file.ModelFormatException;

/** PEFT's adapter_config.json. */
final class AdapterConfigJson {
    /** PEFT shortens a long list of full names that came from all-linear to suffixes. */
    private static final int MANY_TARGETS = 20;

    /**
     * Options that change the mathematics and are not implemented: refused unless they have the value that switches
     * them off.
     */
    private static final List<String> OFF = List.of(
            "use_qalora",
            "lora_bias",
            "fan_in_fan_out",
            "layer_replication",
            "trainable_token_indices",
            "target_parameters",
            "alora_invocation_tokens",
            "use_bdlora",
            "arrow_config",
            "layers_pattern");

    private AdapterConfigJson() {}

    static LoraConfig read(Path file, ObjectNode json) {
        if (!json.path("peft_type").asText().equals("LORA")) {
            throw new ModelFormatException(
                    file, "peft_type " + json.path("peft_type") + " is not supported; supported: LORA");
        }
        for (String key : OFF) {
            JsonNode v = json.path(key);
            if (v.isMissingNode()
                    || v.isNull()
                    || v.isBoolean() && !v.booleanValue()
                    || v.isContainerNode() && v.isEmpty()) {
                continue;
            }
            throw new ModelFormatException(file, key + " " + v + " is not supported; supported: off");
        }
        if (!json.path("bias").asText("none").equals("none")) {
            throw new ModelFormatException(file, "bias " + json.path("bias") + " is not supported; supported: none");
        }
        try {
            ModuleSelector targets = selector(file, json.path("target_modules"));
            if (targets == null) {
                throw new ModelFormatException(file, "target_modules is missing");
            }
            return LoraConfig.builder(
                            json.path("r").intValue(), json.path("lora_alpha").doubleValue())
                    .loraDropout(json.path("lora_dropout").doubleValue())
                    .targetModules(targets)
                    .excludeModules(selector(file, json.path("exclude_modules")))
                    .useRslora(json.path("use_rslora").booleanValue())
                    .useDora(json.path("use_dora").booleanValue())
                    .rankPattern(LoraJson.ranks(json.path("rank_pattern")))
                    .alphaPattern(LoraJson.alphas(json.path("alpha_pattern")))
                    .layersToTransform(LoraJson.layers(json.path("layers_to_transform")))
                    .modulesToSave(strings(file, json.path("modules_to_save")))
                    .build();
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(file, String.valueOf(e.getMessage()), e);
        }
    }

    private static @Nullable ModuleSelector selector(Path file, JsonNode node) {
        if (node.isMissingNode() || node.isNull() || node.isArray() && node.isEmpty()) {
            return null;
        }
        if (node.isTextual()) {
            return node.textValue().equals("all-linear")
                    ? new ModuleSelector.AllLinear()
                    : new ModuleSelector.Regex(node.textValue());
        }
        return new ModuleSelector.Names(strings(file, node));
    }

    private static Set<String> strings(Path file, JsonNode node) {
        Set<String> set = new TreeSet<>();
        if (node.isMissingNode() || node.isNull()) {
            return set;
        }
        for (JsonNode n : node) {
            if (!n.isTextual()) {
                throw new ModelFormatException(file, "expected a list of strings, found " + node);
            }
            set.add(n.textValue());
        }
        return set;
    }

    /** All keys PEFT 0.21 writes, sorted; options that do not exist here have PEFT's defaults. */
    static ObjectNode write(LoraAdapter adapter, String baseModel) {
        LoraConfig c = adapter.config();
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.putNull("alora_invocation_tokens");
        json.set("alpha_pattern", patterns(c.alphaPattern()));
        json.putNull("arrow_config");
        json.putNull("auto_mapping");
        json.put("base_model_name_or_path", baseModel);
        json.put("bias", "none");
        json.putNull("corda_config");
        json.put("ensure_weight_tying", false);
        json.putNull("eva_config");
        json.set("exclude_modules", selector(c.excludeModules()));
        json.put("fan_in_fan_out", false);
        json.put("inference_mode", true);
        switch (c.initWeights()) {
            case TRUE -> json.put("init_lora_weights", true);
            case FALSE -> json.put("init_lora_weights", false);
            case GAUSSIAN -> json.put("init_lora_weights", "gaussian");
        }
        json.putNull("kasa_config");
        json.putNull("layer_replication");
        json.putNull("layers_pattern");
        List<Integer> layers = c.layersToTransform();
        if (layers == null) {
            json.putNull("layers_to_transform");
        } else {
            ArrayNode array = json.putArray("layers_to_transform");
            layers.forEach(array::add);
        }
        json.putObject("loftq_config");
        number(json, "lora_alpha", c.loraAlpha());
        json.put("lora_bias", false);
        json.put("lora_dropout", c.loraDropout());
        json.putNull("lora_ga_config");
        json.putNull("megatron_config");
        json.put("megatron_core", "megatron.core");
        if (c.modulesToSave().isEmpty()) {
            json.putNull("modules_to_save");
        } else {
            ArrayNode array = json.putArray("modules_to_save");
            new TreeSet<>(c.modulesToSave()).forEach(array::add);
        }
        json.putNull("monteclora_config");
        json.put("peft_type", "LORA");
        json.put("peft_version", "0.21.2");
        json.put("qalora_group_size", 16);
        json.put("r", c.r());
        ObjectNode ranks = json.putObject("rank_pattern");
        c.rankPattern().forEach(ranks::put);
        json.putNull("revision");
        json.set("target_modules", targets(adapter));
        json.putNull("target_parameters");
        json.put("task_type", "CAUSAL_LM");
        json.putNull("trainable_token_indices");
        json.putNull("use_bdlora");
        json.put("use_dora", c.useDora());
        json.put("use_qalora", false);
        json.put("use_rslora", c.useRslora());
        json.putNull("velora_config");
        return json;
    }

    /** PEFT writes whole numbers without a fraction. */
    private static void number(ObjectNode json, String key, double value) {
        if (value == Math.rint(value) && Math.abs(value) < 1e15) {
            json.put(key, (long) value);
        } else {
            json.put(key, value);
        }
    }

    private static ObjectNode patterns(Map<String, Double> patterns) {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        patterns.forEach((key, value) -> number(json, key, value));
        return json;
    }

    private static JsonNode selector(@Nullable ModuleSelector selector) {
        JsonNodeFactory f = JsonNodeFactory.instance;
        return switch (selector) {
            case null -> f.nullNode();
            case ModuleSelector.AllLinear a -> f.textNode("all-linear");
            case ModuleSelector.Regex r -> f.textNode(r.expression());
            case ModuleSelector.Names n -> list(n.names());
        };
    }

    private static JsonNode targets(LoraAdapter adapter) {
        if (!(adapter.config().targetModules() instanceof ModuleSelector.AllLinear)) {
            return selector(adapter.config().targetModules());
        }
        Set<String> names = new TreeSet<>(adapter.targets());
        if (names.size() >= MANY_TARGETS) {
            Set<String> suffixes = new TreeSet<>();
            names.forEach(n -> suffixes.add(n.substring(n.lastIndexOf('.') + 1)));
            names = suffixes;
        }
        return list(names);
    }

    private static ArrayNode list(Set<String> names) {
        ArrayNode array = JsonNodeFactory.instance.arrayNode();
        names.forEach(array::add);
        return array;
    }
}
