package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/**
 * PEFT's LoraConfig, as far as it is implemented.
 *
 * @param r rank
 * @param loraAlpha α; the low-rank product is scaled by α/r, or α/√r with rsLoRA
 * @param loraDropout probability in [0, 1) that an input element of A is dropped in training
 * @param targetModules which linear layers get LoRA
 * @param excludeModules layers that get none although they are targets; null for no exclusion
 * @param useRslora scale by α/√r
 * @param useDora train the lengths of the weight's rows apart from their directions
 * @param rankPattern rank of modules whose name matches the key, the first match counts
 * @param alphaPattern α of modules whose name matches the key, the first match counts
 * @param layersToTransform layer numbers; null for all
 * @param layersPattern names of the list the layer numbers are counted in; empty for any
 * @param modulesToSave modules that are trained whole: {@code lm_head}, {@code embed_tokens}
 * @param trainableTokenIndices token ids whose rows of the embedding are trained, by the name of the embedding
 * @param ensureWeightTying whether an output layer tied to the embedding stays tied to it when that is trained
 * @param loraBias whether B has a bias
 * @param bias which biases of the base are trained
 * @param initWeights how A and B start
 * @param otherKeys what adapter_config.json says beyond these options; written back
 * @see <a href="https://huggingface.co/docs/peft/package_reference/lora">PEFT's documentation</a>
 */
public record LoraConfig(
        int r,
        double loraAlpha,
        double loraDropout,
        ModuleSelector targetModules,
        @Nullable ModuleSelector excludeModules,
        boolean useRslora,
        boolean useDora,
        Map<String, Integer> rankPattern,
        Map<String, Double> alphaPattern,
        @Nullable List<Integer> layersToTransform,
        List<String> layersPattern,
        Set<String> modulesToSave,
        Map<String, List<Integer>> trainableTokenIndices,
        boolean ensureWeightTying,
        boolean loraBias,
        BiasTraining bias,
        InitWeights initWeights,
        Map<String, JsonNode> otherKeys) {

    public LoraConfig {
        if (r < 1 || r > 65536) {
            throw new IllegalArgumentException("lora_rank must be in 1 … 65536, got " + r);
        }
        if (!(loraAlpha > 0) || Double.isInfinite(loraAlpha)) {
            throw new IllegalArgumentException("lora_alpha must be positive, got " + loraAlpha);
        }
        if (!(loraDropout >= 0 && loraDropout < 1)) {
            throw new IllegalArgumentException("lora_dropout must be in [0, 1), got " + loraDropout);
        }
        rankPattern = Collections.unmodifiableMap(new LinkedHashMap<>(rankPattern));
        alphaPattern = Collections.unmodifiableMap(new LinkedHashMap<>(alphaPattern));
        for (Map.Entry<String, Integer> e : rankPattern.entrySet()) {
            if (e.getValue() < 1 || e.getValue() > 65536) {
                throw new IllegalArgumentException(
                        "rank_pattern: rank of '" + e.getKey() + "' must be in 1 … 65536, got " + e.getValue());
            }
        }
        layersToTransform = layersToTransform == null ? null : List.copyOf(layersToTransform);
        layersPattern = List.copyOf(layersPattern);
        modulesToSave = Set.copyOf(modulesToSave);
        trainableTokenIndices = Collections.unmodifiableMap(new TreeMap<>(trainableTokenIndices));
        otherKeys = Collections.unmodifiableMap(new TreeMap<>(otherKeys));
        checkTokens(trainableTokenIndices, modulesToSave);
        if (layersToTransform != null && targetModules instanceof ModuleSelector.Regex) {
            throw new IllegalArgumentException(
                    "layers_to_transform cannot be combined with a regular expression in target_modules");
        }
        if (layersToTransform == null && !layersPattern.isEmpty()) {
            throw new IllegalArgumentException("layers_pattern needs layers_to_transform");
        }
        if (useDora && (initWeights.changesTheBase() || loraBias)) {
            throw new IllegalArgumentException("use_dora cannot be combined with "
                    + (loraBias ? "lora_bias" : "init_weights " + initWeights.peftName()));
        }
        if (loraBias && initWeights != InitWeights.TRUE && initWeights != InitWeights.FALSE) {
            throw new IllegalArgumentException("lora_bias needs init_weights true or false");
        }
        if (useRslora && initWeights.changesTheBase() && !(rankPattern.isEmpty() && alphaPattern.isEmpty())) {
            throw new IllegalArgumentException("init_weights " + initWeights.peftName()
                    + " with use_rslora cannot be saved as plain LoRA when there is a rank_pattern or alpha_pattern");
        }
    }

    private static void checkTokens(Map<String, List<Integer>> tokens, Set<String> modulesToSave) {
        tokens.forEach((module, ids) -> {
            if (ids.isEmpty()
                    || Set.copyOf(ids).size() != ids.size()
                    || ids.stream().anyMatch(id -> id < 0)) {
                throw new IllegalArgumentException(
                        "trainable_token_indices of " + module + " must be different ids from 0 on, got " + ids);
            }
            if (modulesToSave.contains(module)) {
                throw new IllegalArgumentException(
                        module
                                + " is trained whole (modules_to_save): take it off trainable_token_indices or modules_to_save");
            }
        });
    }

    /** LoRA on all linear layers except the output layer, everything else as PEFT's defaults. */
    public static LoraConfig allLinear(int r, double loraAlpha) {
        return builder(r, loraAlpha).build();
    }

    /** Starts from {@link #allLinear}. */
    public static LoraConfigBuilder builder(int r, double loraAlpha) {
        return new LoraConfigBuilder(r, loraAlpha);
    }

    /** Starts from these options. */
    public LoraConfigBuilder toBuilder() {
        return new LoraConfigBuilder(this);
    }

    /** The same with another dropout: 0 to use an adapter, the run's own to train it on. */
    public LoraConfig withDropout(double dropout) {
        return toBuilder().loraDropout(dropout).build();
    }

    /**
     * These options as plain LoRA, which {@link AdapterFiles} writes: the start of PiSSA and OLoRA lies behind the
     * trained pair, so ranks double, and α with them so that the scale stays.
     */
    LoraConfig plain() {
        if (initWeights instanceof InitWeights.Loftq) {
            return toBuilder().initWeights(InitWeights.TRUE).build();
        }
        if (!initWeights.changesTheBase()) {
            return this;
        }
        Map<String, Integer> ranks = new LinkedHashMap<>();
        rankPattern.forEach((key, rank) -> ranks.put(key, 2 * rank));
        Map<String, Double> alphas = new LinkedHashMap<>();
        alphaPattern.forEach((key, alpha) -> alphas.put(key, 2 * alpha));
        return toBuilder()
                .r(2 * r)
                .loraAlpha(loraAlpha * (useRslora ? Math.sqrt(2) : 2))
                .rankPattern(ranks)
                .alphaPattern(alphas)
                .initWeights(InitWeights.TRUE)
                .build();
    }

    /** The rank of one module. */
    public int rank(String module) {
        Integer own = ModuleSelector.firstMatch(rankPattern, module);
        return own == null ? r : own;
    }

    /** The factor on one module's low-rank product. */
    public double scale(String module) {
        Double own = ModuleSelector.firstMatch(alphaPattern, module);
        double alpha = own == null ? loraAlpha : own;
        int rank = rank(module);
        return alpha / (useRslora ? Math.sqrt(rank) : rank);
    }
}
