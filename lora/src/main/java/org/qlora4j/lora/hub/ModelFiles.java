package org.qlora4j.lora.hub;

import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Which files of a repository make a model: weights as safetensors, tokenizer, configuration. No code. */
final class ModelFiles {
    private static final Set<String> TEXTS = Set.of(
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "chat_template.jinja",
            "model.safetensors.index.json");

    private ModelFiles() {}

    /** The names to have. @throws IllegalArgumentException if the weights are of another kind */
    static List<String> choose(HubId id, List<String> names) {
        List<String> chosen =
                names.stream().filter(n -> TEXTS.contains(n) || isWeights(n)).toList();
        if (!chosen.contains("config.json") || chosen.stream().noneMatch(ModelFiles::isWeights)) {
            List<String> others = names.stream()
                    .filter(n -> n.endsWith(".gguf") || n.endsWith(".bin") || n.endsWith(".pth"))
                    .limit(5)
                    .toList();
            throw new IllegalArgumentException(id + " has no config.json with weights named model*.safetensors"
                    + (others.isEmpty()
                            ? ""
                            : "; it has " + String.join(", ", others)
                                    + ": a .gguf file can be downloaded by hand and named by its path"));
        }
        return chosen;
    }

    private static boolean isWeights(String name) {
        return name.matches("model[A-Za-z0-9_.-]*\\.safetensors");
    }

    /** Whether a folder has all of a model: of shards named {@code -00001-of-00003}, every one. */
    static boolean isComplete(List<String> names) {
        List<String> weights = names.stream().filter(ModelFiles::isWeights).toList();
        if (weights.isEmpty() || !names.contains("config.json") || !names.contains("tokenizer.json")) {
            return false;
        }
        String first = weights.getFirst();
        Matcher shard = Pattern.compile("-\\d{5}-of-(\\d{5})\\.safetensors$").matcher(first);
        return !shard.find() || weights.size() >= Integer.parseInt(shard.group(1));
    }
}
