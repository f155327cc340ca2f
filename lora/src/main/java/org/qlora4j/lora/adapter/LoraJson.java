package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Those of LoRA's options that are JSON, in adapter_config.json and on the command line alike. */
public final class LoraJson {
    private LoraJson() {}

    /** {@code rank_pattern}; empty if the node is missing. */
    public static Map<String, Integer> ranks(JsonNode node) {
        Map<String, Integer> map = new LinkedHashMap<>();
        node.properties().forEach(e -> map.put(e.getKey(), e.getValue().intValue()));
        return map;
    }

    /** {@code alpha_pattern}; empty if the node is missing. */
    public static Map<String, Double> alphas(JsonNode node) {
        Map<String, Double> map = new LinkedHashMap<>();
        node.properties().forEach(e -> map.put(e.getKey(), e.getValue().doubleValue()));
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
        List<Integer> list = new ArrayList<>();
        for (JsonNode n : node) {
            if (!n.isIntegralNumber()) {
                throw new IllegalArgumentException(
                        "layers_to_transform must be an integer or a list of them, found " + node);
            }
            list.add(n.intValue());
        }
        return list;
    }
}
