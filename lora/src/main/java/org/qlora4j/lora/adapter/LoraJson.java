package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/** Those of LoRA's options that are JSON, in adapter_config.json and on the command line alike. */
public final class LoraJson {
    /** The embedding's name where a configuration does not say which. */
    static final String EMBEDDING = "embed_tokens";

    private LoraJson() {}

    /** {@code rank_pattern}; empty if the node is missing. */
    public static Map<String, Integer> ranks(JsonNode node) {
        Map<String, Integer> map = new LinkedHashMap<>();
        numbers("rank_pattern", node).forEach((key, value) -> map.put(key, value.intValue()));
        return map;
    }

    /** {@code alpha_pattern}; empty if the node is missing. */
    public static Map<String, Double> alphas(JsonNode node) {
        Map<String, Double> map = new LinkedHashMap<>();
        numbers("alpha_pattern", node).forEach((key, value) -> map.put(key, value.doubleValue()));
        return map;
    }

    private static Map<String, JsonNode> numbers(String key, JsonNode node) {
        Map<String, JsonNode> map = new LinkedHashMap<>();
        if (!node.isMissingNode() && !node.isNull() && !node.isObject()) {
            throw new IllegalArgumentException(key + " must be an object of numbers by module names, found " + node);
        }
        node.properties().forEach(e -> {
            if (!e.getValue().isNumber()) {
                throw new IllegalArgumentException(
                        key + " of '" + e.getKey() + "' must be a number, found " + e.getValue());
            }
            map.put(e.getKey(), e.getValue());
        });
        return map;
    }

    /**
     * {@code layers_to_transform}: an integer or a list of them; null if the node is missing or null.
     *
     * @throws IllegalArgumentException if it is anything else
     */
    public static @Nullable List<Integer> layers(JsonNode node) {
        if (node.isMissingNode() || node.isNull()) {
            return null;
        }
        if (node.isIntegralNumber()) {
            return List.of(node.intValue());
        }
        return integers("layers_to_transform", node);
    }

    /**
     * A name or a list of names; empty if the node is missing or null.
     *
     * @param key for the message
     * @throws IllegalArgumentException if it is anything else
     */
    static Set<String> names(String key, JsonNode node) {
        Set<String> set = new TreeSet<>();
        if (node.isMissingNode() || node.isNull()) {
            return set;
        }
        if (node.isTextual()) {
            return Set.of(node.textValue());
        }
        if (!node.isArray()) {
            throw new IllegalArgumentException(key + ": expected a name or a list of names, found " + node);
        }
        for (JsonNode n : node) {
            if (!n.isTextual()) {
                throw new IllegalArgumentException(key + ": expected a name or a list of names, found " + node);
            }
            set.add(n.textValue());
        }
        return set;
    }

    /**
     * {@code trainable_token_indices}: a list of ids of the embedding, or lists by the module's name.
     *
     * @throws IllegalArgumentException if it is anything else
     */
    public static Map<String, List<Integer>> tokens(JsonNode node) {
        if (node.isMissingNode() || node.isNull()) {
            return Map.of();
        }
        if (node.isArray()) {
            return node.isEmpty() ? Map.of() : Map.of(EMBEDDING, integers("trainable_token_indices", node));
        }
        if (!node.isObject()) {
            throw new IllegalArgumentException(
                    "trainable_token_indices must be a list of ids or an object of such lists, found " + node);
        }
        Map<String, List<Integer>> map = new LinkedHashMap<>();
        node.properties().forEach(e -> map.put(e.getKey(), integers("trainable_token_indices", e.getValue())));
        return map;
    }

    private static List<Integer> integers(String key, JsonNode node) {
        List<Integer> list = new ArrayList<>();
        if (!node.isArray()) {
            throw new IllegalArgumentException(key + " must be an integer or a list of them, found " + node);
        }
        for (JsonNode n : node) {
            if (!n.canConvertToInt() || !n.isIntegralNumber()) {
                throw new IllegalArgumentException(key + " must be an integer or a list of them, found " + node);
            }
            list.add(n.intValue());
        }
        return list;
    }
}
