package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.file.ModelFormatException;

/** PEFT's adapter_config.json. */
final class AdapterConfigJson {
    private static final JsonNodeFactory F = JsonNodeFactory.instance;

    /** PEFT shortens a long list of full names that came from all-linear to suffixes. */
    private static final int MANY_TARGETS = 20;

    /** What PEFT aims at without target_modules, in every family there is here. */
    private static final Set<String> DEFAULT_TARGETS = Set.of("q_proj", "v_proj");

    /** Options that change the mathematics and are not implemented, with the reason. */
    private static final Map<String, String> OFF = new TreeMap<>(Map.ofEntries(
            Map.entry("alora_invocation_tokens", "activated LoRA works from a token of the text on only"),
            Map.entry("arrow_config", "Arrow routes between adapters"),
            Map.entry("kasa_config", "KaSA cuts singular values off the base and trains others"),
            Map.entry("layer_replication", "the base would get other layers"),
            Map.entry("monteclora_config", "MonteCLoRA samples its weights"),
            Map.entry("target_parameters", "LoRA lies on linear layers and the embedding here"),
            Map.entry("use_bdlora", "block-diagonal LoRA has other matrices"),
            Map.entry("use_qalora", "QALoRA pools the input of A")));

    /** Options that are in {@link LoraConfig}. */
    private static final Set<String> OWN = Set.of(
            "base_model_name_or_path",
            "bias",
            "r",
            "lora_alpha",
            "lora_dropout",
            "target_modules",
            "exclude_modules",
            "use_rslora",
            "use_dora",
            "rank_pattern",
            "alpha_pattern",
            "layers_to_transform",
            "layers_pattern",
            "modules_to_save",
            "trainable_token_indices",
            "ensure_weight_tying",
            "lora_bias",
            "init_lora_weights",
            "peft_type");

    private AdapterConfigJson() {}

    static LoraConfig read(Path file, ObjectNode json) {
        if (!json.path("peft_type").asText().equals("LORA")) {
            throw new ModelFormatException(
                    file, "peft_type " + json.path("peft_type") + " is not supported; supported: LORA");
        }
        OFF.forEach((key, reason) -> {
            if (isOn(json.path(key))) {
                throw new ModelFormatException(
                        file, key + " " + json.path(key) + " is not supported (" + reason + "); supported: off");
            }
        });
        try {
            ModuleSelector targets = selector(json.path("target_modules"));
            return LoraConfig.builder(
                            json.path("r").intValue(), json.path("lora_alpha").doubleValue())
                    .loraDropout(json.path("lora_dropout").doubleValue())
                    .targetModules(targets == null ? new ModuleSelector.Names(DEFAULT_TARGETS) : targets)
                    .excludeModules(selector(json.path("exclude_modules")))
                    .useRslora(json.path("use_rslora").booleanValue())
                    .useDora(json.path("use_dora").booleanValue())
                    .rankPattern(LoraJson.ranks(json.path("rank_pattern")))
                    .alphaPattern(LoraJson.alphas(json.path("alpha_pattern")))
                    .layersToTransform(LoraJson.layers(json.path("layers_to_transform")))
                    .layersPattern(List.copyOf(LoraJson.names("layers_pattern", json.path("layers_pattern"))))
                    .modulesToSave(LoraJson.names("modules_to_save", json.path("modules_to_save")))
                    .trainableTokenIndices(LoraJson.tokens(json.path("trainable_token_indices")))
                    .ensureWeightTying(json.path("ensure_weight_tying").booleanValue())
                    .loraBias(json.path("lora_bias").booleanValue())
                    .bias(BiasTraining.of(json.path("bias").asText("none")))
                    .initWeights(init(json.path("init_lora_weights")))
                    .otherKeys(others(json))
                    .build();
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(file, String.valueOf(e.getMessage()), e);
        }
    }

    private static boolean isOn(JsonNode v) {
        return !(v.isMissingNode()
                || v.isNull()
                || v.isBoolean() && !v.booleanValue()
                || v.isContainerNode() && v.isEmpty());
    }

    private static InitWeights init(JsonNode node) {
        if (node.isMissingNode() || node.isNull()) {
            return InitWeights.TRUE;
        }
        String name = node.asText();
        if (Set.of("eva", "orthogonal", "mica").contains(name)) {
            return new InitWeights.Foreign(name);
        }
        if (Set.of("corda", "lora_ga", "loftq").contains(name)) {
            throw new IllegalArgumentException("init_lora_weights " + name
                    + " is not supported (the adapter fits a changed base only); have PEFT save it as plain LoRA");
        }
        return InitWeights.of(name);
    }

    private static Map<String, JsonNode> others(ObjectNode json) {
        Map<String, JsonNode> others = new HashMap<>();
        json.properties().forEach(e -> {
            if (!OWN.contains(e.getKey())) {
                others.put(e.getKey(), e.getValue());
            }
        });
        return others;
    }

    private static @Nullable ModuleSelector selector(JsonNode node) {
        if (node.isMissingNode() || node.isNull() || node.isArray() && node.isEmpty()) {
            return null;
        }
        if (node.isTextual()) {
            return node.textValue().equals("all-linear")
                    ? new ModuleSelector.AllLinear()
                    : new ModuleSelector.Regex(node.textValue());
        }
        return new ModuleSelector.Names(LoraJson.names("target_modules or exclude_modules", node));
    }

    /** All keys PEFT 0.21 writes, and what the file had that the adapter came from, sorted. */
    static ObjectNode write(LoraAdapter adapter, String baseModel) {
        LoraConfig c = adapter.config().plain();
        Map<String, JsonNode> all = new TreeMap<>();
        for (String key : List.of(
                "alora_invocation_tokens",
                "arrow_config",
                "auto_mapping",
                "corda_config",
                "eva_config",
                "kasa_config",
                "layer_replication",
                "lora_ga_config",
                "megatron_config",
                "monteclora_config",
                "revision",
                "target_parameters",
                "use_bdlora",
                "velora_config")) {
            all.put(key, F.nullNode());
        }
        all.put("fan_in_fan_out", F.booleanNode(false));
        all.put("inference_mode", F.booleanNode(true));
        all.put("loftq_config", F.objectNode());
        all.put("megatron_core", F.textNode("megatron.core"));
        all.put("peft_version", F.textNode("0.21.2"));
        all.put("qalora_group_size", F.numberNode(16));
        all.put("task_type", F.textNode("CAUSAL_LM"));
        all.put("use_qalora", F.booleanNode(false));
        all.putAll(c.otherKeys());

        all.put("alpha_pattern", numbers(c.alphaPattern()));
        all.put("base_model_name_or_path", F.textNode(baseModel));
        all.put("bias", F.textNode(c.bias().peftName()));
        all.put("ensure_weight_tying", F.booleanNode(tying(adapter)));
        all.put("exclude_modules", selector(c.excludeModules()));
        all.put("init_lora_weights", init(c.initWeights()));
        all.put("layers_pattern", orNull(c.layersPattern()));
        all.put("layers_to_transform", integers(c.layersToTransform()));
        all.put("lora_alpha", number(c.loraAlpha()));
        all.put("lora_bias", F.booleanNode(c.loraBias()));
        all.put("lora_dropout", F.numberNode(c.loraDropout()));
        all.put("modules_to_save", orNull(new TreeSet<>(c.modulesToSave())));
        all.put("peft_type", F.textNode("LORA"));
        all.put("r", F.numberNode(c.r()));
        all.put("rank_pattern", integers(c.rankPattern()));
        all.put("target_modules", targets(adapter));
        all.put("trainable_token_indices", tokens(c.trainableTokenIndices()));
        all.put("use_dora", F.booleanNode(c.useDora()));
        all.put("use_rslora", F.booleanNode(c.useRslora()));
        ObjectNode json = F.objectNode();
        all.forEach(json::set);
        return json;
    }

    /** PEFT warns if it is asked to tie where nothing is to be tied. */
    private static boolean tying(LoraAdapter adapter) {
        return adapter.config().ensureWeightTying() && adapter.parts().tied();
    }

    private static JsonNode init(InitWeights how) {
        return switch (how.peftName()) {
            case "true" -> F.booleanNode(true);
            case "false" -> F.booleanNode(false);
            default -> F.textNode(how.peftName());
        };
    }

    /** PEFT writes whole numbers without a fraction. */
    private static JsonNode number(double value) {
        boolean whole = value == Math.rint(value) && Math.abs(value) < 1e15;
        return whole ? F.numberNode((long) value) : F.numberNode(value);
    }

    private static ObjectNode numbers(Map<String, Double> patterns) {
        ObjectNode json = F.objectNode();
        patterns.forEach((key, value) -> json.set(key, number(value)));
        return json;
    }

    private static ObjectNode integers(Map<String, Integer> patterns) {
        ObjectNode json = F.objectNode();
        patterns.forEach(json::put);
        return json;
    }

    private static JsonNode integers(@Nullable List<Integer> values) {
        if (values == null) {
            return F.nullNode();
        }
        ArrayNode array = F.arrayNode();
        values.forEach(array::add);
        return array;
    }

    /** A list for the embedding alone, as most people write it. */
    private static JsonNode tokens(Map<String, List<Integer>> tokens) {
        if (tokens.isEmpty()) {
            return F.nullNode();
        }
        if (tokens.keySet().equals(Set.of(LoraJson.EMBEDDING))) {
            return integers(tokens.get(LoraJson.EMBEDDING));
        }
        ObjectNode json = F.objectNode();
        tokens.forEach((module, ids) -> json.set(module, integers(ids)));
        return json;
    }

    private static JsonNode selector(@Nullable ModuleSelector selector) {
        return switch (selector) {
            case null -> F.nullNode();
            case ModuleSelector.AllLinear a -> F.textNode("all-linear");
            case ModuleSelector.Regex r -> F.textNode(r.expression());
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

    private static JsonNode orNull(Collection<String> names) {
        return names.isEmpty() ? F.nullNode() : list(names);
    }

    private static ArrayNode list(Collection<String> names) {
        ArrayNode array = F.arrayNode();
        names.forEach(array::add);
        return array;
    }
}
