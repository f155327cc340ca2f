package org.qlora4j.lora.adapter;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
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
 * @param modulesToSave modules that are trained whole, e.g. {@code lm_head}
 * @param initWeights how A and B start
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
        Set<String> modulesToSave,
        InitWeights initWeights) {

    /** PEFT's {@code init_lora_weights}. */
    public enum InitWeights {
        /** {@code true}: A uniform in ±1/√in (kaiming_uniform with a = √5), B zero. */
        TRUE,
        /**
         * {@code false}: A as for true and B the same way, so that the adapter changes the model from the start; for
         * tests.
         */
        FALSE,
        /** {@code gaussian}: A normal with deviation 1/r, B zero. */
        GAUSSIAN
    }

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
        rankPattern = java.util.Collections.unmodifiableMap(new LinkedHashMap<>(rankPattern));
        alphaPattern = java.util.Collections.unmodifiableMap(new LinkedHashMap<>(alphaPattern));
        for (Map.Entry<String, Integer> e : rankPattern.entrySet()) {
            if (e.getValue() < 1 || e.getValue() > 65536) {
                throw new IllegalArgumentException(
                        "rank_pattern: rank of '" + e.getKey() + "' must be in 1 … 65536, got " + e.getValue());
            }
        }
        layersToTransform = layersToTransform == null ? null : List.copyOf(layersToTransform);
        modulesToSave = Set.copyOf(modulesToSave);
        if (layersToTransform != null && targetModules instanceof ModuleSelector.Regex) {
            throw new IllegalArgumentException(
                    "layers_to_transform cannot be combined with a regular expression in target_modules");
        }
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
