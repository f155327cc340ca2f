package org.qlora4j.samples;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.BiasTraining;
import org.qlora4j.lora.adapter.InitWeights;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.adapter.LoraJson;
import org.qlora4j.lora.adapter.ModuleSelector;

/** The options of a new adapter. */
final class LoraOptions {
    private LoraOptions() {}

    static LoraConfig config(Arguments a) {
        return LoraConfig.builder(a.integer("lora_rank"), a.number("lora_alpha"))
                .loraDropout(a.number("lora_dropout"))
                .targetModules(targets(a))
                .excludeModules(exclude(a))
                .useRslora(a.bool("use_rslora"))
                .useDora(a.bool("use_dora"))
                .bias(BiasTraining.of(a.text("lora_bias")))
                .rankPattern(LoraJson.ranks(a.json("rank_pattern")))
                .alphaPattern(LoraJson.alphas(a.json("alpha_pattern")))
                .layersToTransform(LoraJson.layers(a.json("layers_to_transform")))
                .layersPattern(a.list("layers_pattern"))
                .modulesToSave(new LinkedHashSet<>(a.list("modules_to_save")))
                .trainableTokenIndices(LoraJson.tokens(a.json("trainable_token_indices")))
                .ensureWeightTying(a.bool("ensure_weight_tying"))
                .initWeights(InitWeights.of(a.text("init_weights")))
                .build();
    }

    private static ModuleSelector targets(Arguments a) {
        if (a.has("target_regex")) {
            return new ModuleSelector.Regex(a.text("target_regex"));
        }
        List<String> names = a.list("target_modules");
        return names.equals(List.of("all-linear"))
                ? new ModuleSelector.AllLinear()
                : new ModuleSelector.Names(new LinkedHashSet<>(names));
    }

    private static @Nullable ModuleSelector exclude(Arguments a) {
        if (!a.has("exclude_modules")) {
            return null;
        }
        List<String> words = a.list("exclude_modules");
        if (words.getFirst().startsWith("[") || words.getFirst().startsWith("\"")) {
            JsonNode json = a.json("exclude_modules");
            if (json.isTextual()) {
                return new ModuleSelector.Regex(json.textValue());
            }
            Set<String> names = new LinkedHashSet<>();
            json.forEach(n -> names.add(n.asText()));
            return new ModuleSelector.Names(names);
        }
        return new ModuleSelector.Names(new LinkedHashSet<>(words));
    }
}
