package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.MatchResult;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.qlora4j.lora.model.Embedding;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.NamePattern;
import org.qlora4j.lora.model.Transformer;

/**
 * Which parts of a model a configuration names.
 *
 * @param lora linear layers with LoRA, in the order of a forward pass
 * @param loraEmbedding whether the embedding has LoRA
 * @param saved linear layers that are trained whole
 * @param savedEmbedding whether the embedding is trained whole
 * @param embeddingTokens ids whose rows of the embedding are trained
 * @param outputTokens ids whose rows of the output layer are trained apart from the embedding's
 * @param tied whether the output layer follows the trained embedding or its trained rows
 */
record LoraTargets(
        List<Linear> lora,
        boolean loraEmbedding,
        List<Linear> saved,
        boolean savedEmbedding,
        List<Integer> embeddingTokens,
        List<Integer> outputTokens,
        boolean tied) {
    private static final Pattern ANY_LAYER = Pattern.compile(".*?\\.[^.]*\\.(\\d+)\\..*");

    /**
     * Finds them.
     *
     * @param strict whether every name of a list must match something; an adapter made elsewhere need not be so
     * @throws IllegalArgumentException if nothing matches (the message lists the names that exist), or what matches
     *     cannot be adapted
     */
    static LoraTargets of(Transformer model, LoraConfig config, boolean strict) {
        Embedding embedding = model.embedding();
        Linear output = model.outputLayer();
        boolean tiedModel = output.frozen() == embedding.frozen();
        List<Linear> lora = new ArrayList<>();
        for (Linear linear : model.linears()) {
            boolean outputOfAll = config.targetModules() instanceof ModuleSelector.AllLinear && linear == output;
            if (!outputOfAll && selects(config, linear.name())) {
                lora.add(linear);
            }
        }
        boolean loraEmbedding =
                !(config.targetModules() instanceof ModuleSelector.AllLinear) && selects(config, embedding.name());
        requireMatches(model, config, lora, loraEmbedding, strict);
        List<Linear> saved = new ArrayList<>();
        boolean savedEmbedding = false;
        for (String name : config.modulesToSave()) {
            if (ModuleSelector.Names.matches(name, embedding.name())) {
                savedEmbedding = true;
            } else if (ModuleSelector.Names.matches(name, output.name())) {
                saved.add(output);
            } else {
                throw new IllegalArgumentException("modules_to_save '" + name + "' is not supported; supported: "
                        + output.name() + ", " + suffix(embedding.name()));
            }
        }
        List<Integer> tokens = tokens(config, embedding.name());
        List<Integer> outputTokens = tokens(config, output.name());
        requireKnown(config, embedding.name(), output.name());
        boolean tied = tiedModel && (savedEmbedding && config.ensureWeightTying() || !tokens.isEmpty());
        if (tied && !outputTokens.isEmpty()) {
            if (outputTokens.equals(tokens)) {
                outputTokens = List.of();
            } else if (config.ensureWeightTying()) {
                throw new IllegalArgumentException(
                        "trainable_token_indices of the embedding and of the output layer tied to it differ: " + tokens
                                + ", " + outputTokens + "; make them equal, or set ensure_weight_tying false");
            } else {
                tied = false;
            }
        }
        if (tied) {
            saved.remove(output);
        }
        if (loraEmbedding && tiedModel && config.ensureWeightTying()) {
            throw new IllegalArgumentException("LoRA on " + embedding.name()
                    + " would part it from the output layer tied to it; set ensure_weight_tying false to accept that, or"
                    + " train it whole with modules_to_save");
        }
        if (loraEmbedding
                && (config.useDora() || config.loraBias() || !(config.initWeights() instanceof InitWeights.Plain))) {
            throw new IllegalArgumentException("LoRA on " + embedding.name()
                    + " has no use_dora, no lora_bias, and init_weights true or gaussian only");
        }
        if (lora.contains(output) && (tied || !outputTokens.isEmpty())) {
            throw new IllegalArgumentException(
                    output.name() + " cannot have LoRA and trained rows or a trained weight at once");
        }
        return new LoraTargets(lora, loraEmbedding, saved, savedEmbedding, tokens, outputTokens, tied);
    }

    private static boolean selects(LoraConfig config, String module) {
        ModuleSelector exclude = config.excludeModules();
        return config.targetModules().selects(module)
                && inLayers(config, module)
                && (exclude == null || !exclude.selects(module))
                && config.modulesToSave().stream().noneMatch(name -> isInside(name, module));
    }

    /** PEFT keeps adapters off everything at or below a module that is trained whole. */
    private static boolean isInside(String saved, String module) {
        return ("." + module + ".").contains("." + saved + ".");
    }

    private static boolean inLayers(LoraConfig config, String module) {
        List<Integer> layers = config.layersToTransform();
        if (layers == null) {
            return true;
        }
        if (config.layersPattern().isEmpty()) {
            return isOneOf(layers, ANY_LAYER.matcher(module));
        }
        for (String pattern : config.layersPattern()) {
            MatchResult m = NamePattern.of("(?:|.*?\\.)" + pattern + "\\.(?<index>\\d+)\\..*")
                    .match(module);
            if (m != null) {
                // with a pattern of several choices the number may be in none
                return layers.stream().anyMatch(layer -> String.valueOf(layer).equals(m.group("index")));
            }
        }
        return false;
    }

    private static boolean isOneOf(List<Integer> layers, Matcher m) {
        return m.matches() && layers.contains(Integer.valueOf(m.group(1)));
    }

    private static void requireMatches(
            Transformer model, LoraConfig config, List<Linear> lora, boolean loraEmbedding, boolean strict) {
        if (strict && config.targetModules() instanceof ModuleSelector.Names list) {
            for (String name : list.names()) {
                boolean known =
                        ModuleSelector.Names.matches(name, model.embedding().name())
                                || model.linears().stream().anyMatch(l -> ModuleSelector.Names.matches(name, l.name()));
                if (!known) {
                    throw nothingMatches("target_modules '" + name + "'", model);
                }
            }
        }
        if (lora.isEmpty() && !loraEmbedding) {
            throw nothingMatches("target_modules", model);
        }
    }

    private static List<Integer> tokens(LoraConfig config, String module) {
        for (Map.Entry<String, List<Integer>> e : config.trainableTokenIndices().entrySet()) {
            if (ModuleSelector.Names.matches(e.getKey(), module)) {
                return e.getValue();
            }
        }
        return List.of();
    }

    private static void requireKnown(LoraConfig config, String embedding, String output) {
        for (String name : config.trainableTokenIndices().keySet()) {
            if (!ModuleSelector.Names.matches(name, embedding) && !ModuleSelector.Names.matches(name, output)) {
                throw new IllegalArgumentException("trainable_token_indices of '" + name
                        + "' are not supported; supported: " + suffix(embedding) + ", " + output);
            }
        }
    }

    private static IllegalArgumentException nothingMatches(String what, Transformer model) {
        Set<String> suffixes = new LinkedHashSet<>();
        model.linears().forEach(l -> suffixes.add(suffix(l.name())));
        suffixes.add(suffix(model.embedding().name()));
        return new IllegalArgumentException(
                what + " matches no layer of the model; there are: " + String.join(", ", suffixes));
    }

    private static String suffix(String module) {
        return module.substring(module.lastIndexOf('.') + 1);
    }
}
