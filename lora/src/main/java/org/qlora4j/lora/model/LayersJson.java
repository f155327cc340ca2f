package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.qlora4j.nf4.file.ModelFormatException;

/**
 * Reads which layers have a sliding window or experts and which rotary frequencies each has. Transformers 5 writes
 * {@code layer_types}; where a file has none, each family has its own rule.
 */
final class LayersJson {
    private static final String SLIDING = "sliding_attention";
    private static final String FULL = "full_attention";

    private final ModelFamily family;
    private final ConfigJson config;
    private final int count;

    private LayersJson(ModelFamily family, ConfigJson config, int count) {
        this.family = family;
        this.config = config;
        this.count = count;
    }

    static List<LayerConfig> read(ModelFamily family, ConfigJson config, int rotaryDim) {
        int count = config.integer("num_hidden_layers");
        if (count < 1 || count > ModelConfig.MAX_LAYERS) {
            throw new ModelFormatException(
                    config.file(), "num_hidden_layers must be in 1 … " + ModelConfig.MAX_LAYERS + ", got " + count);
        }
        return new LayersJson(family, config, count).layers(rotaryDim);
    }

    private List<LayerConfig> layers(int rotaryDim) {
        boolean twoRopes = family == ModelFamily.GEMMA3_TEXT;
        RopeScaling full = twoRopes
                ? RopeJson.readGlobal(config, rotaryDim)
                : RopeJson.read(config, family == ModelFamily.SMOLLM3 ? 2e6 : 1e4, rotaryDim);
        RopeScaling sliding = twoRopes ? RopeJson.readLocal(config, rotaryDim) : full;
        List<String> types = layerTypes();
        List<Boolean> withRope = layersWithRope();
        List<Boolean> sparse = sparseLayers();
        ExpertsConfig experts = sparse.contains(true) ? experts() : null;
        List<LayerConfig> layers = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            boolean slides = types.get(i).equals(SLIDING);
            RopeScaling rope = slides ? sliding : full;
            layers.add(new LayerConfig(
                    slides ? window() : 0, withRope.get(i) ? rope : null, sparse.get(i) ? experts : null));
        }
        return layers;
    }

    private List<String> layerTypes() {
        return switch (family) {
            case LLAMA, OLMO2 -> rule(i -> false);
            case MISTRAL, PHI3, QWEN3_MOE -> rule(i -> hasWindow());
            case QWEN2, QWEN3 -> {
                int first = config.integer("max_window_layers", 28);
                yield named(i -> hasWindow() && i >= first);
            }
            case GEMMA2 -> named(i -> i % 2 == 0);
            case GEMMA3_TEXT -> {
                int pattern = positive("sliding_window_pattern", 6);
                yield named(i -> (i + 1) % pattern != 0);
            }
            case SMOLLM3 -> {
                List<Boolean> withRope = layersWithRope();
                boolean use = config.bool("use_sliding_window", false) && hasWindow();
                yield named(i -> use && !withRope.get(i));
            }
        };
    }

    @FunctionalInterface
    private interface Slides {
        boolean layer(int i);
    }

    private List<String> rule(Slides slides) {
        List<String> types = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            types.add(slides.layer(i) ? SLIDING : FULL);
        }
        return types;
    }

    /** layer_types, or the family's rule. */
    private List<String> named(Slides otherwise) {
        if (!config.has("layer_types")) {
            return rule(otherwise);
        }
        List<String> types = config.texts("layer_types");
        if (types.size() != count) {
            throw new ModelFormatException(
                    config.file(), "'layer_types' must name " + count + " layers, found " + types.size());
        }
        for (String type : types) {
            if (!type.equals(SLIDING) && !type.equals(FULL)) {
                throw new UnsupportedModelException(config.file() + ": layer type '" + type
                        + "' is not supported; supported: " + FULL + ", " + SLIDING);
            }
        }
        return types;
    }

    private boolean hasWindow() {
        return switch (family) {
            case QWEN2, QWEN3, QWEN3_MOE -> config.bool("use_sliding_window", false) && slidingWindow() > 0;
            case LLAMA, MISTRAL, GEMMA2, GEMMA3_TEXT, PHI3, SMOLLM3, OLMO2 -> slidingWindow() > 0;
        };
    }

    private int window() {
        if (!hasWindow()) {
            throw new UnsupportedModelException(
                    config.file() + ": layers of type " + SLIDING + " are not supported without a sliding_window");
        }
        return slidingWindow();
    }

    /** 0 for none. */
    private int slidingWindow() {
        if (!config.names("sliding_window")) {
            return switch (family) {
                case MISTRAL, QWEN2, QWEN3, QWEN3_MOE, GEMMA2, GEMMA3_TEXT -> 4096;
                case LLAMA, PHI3, SMOLLM3, OLMO2 -> 0;
            };
        }
        return config.has("sliding_window") ? positive("sliding_window", 0) : 0;
    }

    private int positive(String key, int otherwise) {
        int value = config.integer(key, otherwise);
        if (value < 1) {
            throw new ModelFormatException(config.file(), "'" + key + "' must be at least 1, found " + value);
        }
        return value;
    }

    /** Which layers are mixtures of experts: every decoder_sparse_step-th one that mlp_only_layers does not name. */
    private List<Boolean> sparseLayers() {
        List<Boolean> sparse = new ArrayList<>(Collections.nCopies(count, false));
        if (family != ModelFamily.QWEN3_MOE || numExperts() == 0) {
            return sparse;
        }
        int step = positive("decoder_sparse_step", 1);
        List<Integer> dense = config.has("mlp_only_layers") ? config.integers("mlp_only_layers") : List.of();
        for (int i = 0; i < count; i++) {
            sparse.set(i, (i + 1) % step == 0 && !dense.contains(i));
        }
        return sparse;
    }

    /** Transformers 5 writes num_local_experts, transformers 4 num_experts. */
    private int numExperts() {
        return config.integer("num_local_experts", config.integer("num_experts", 128));
    }

    private ExpertsConfig experts() {
        return new ExpertsConfig(
                numExperts(),
                config.integer("num_experts_per_tok", 8),
                config.integer("moe_intermediate_size", 768),
                config.bool("norm_topk_prob", false));
    }

    /** SmolLM3: no_rope_layers has 1 where there is a rotary embedding. */
    private List<Boolean> layersWithRope() {
        List<Boolean> with = new ArrayList<>(count);
        if (family != ModelFamily.SMOLLM3 || !config.has("no_rope_layers")) {
            int interval = family == ModelFamily.SMOLLM3 ? positive("no_rope_layer_interval", 4) : 0;
            for (int i = 0; i < count; i++) {
                with.add(interval == 0 || (i + 1) % interval != 0);
            }
            return with;
        }
        List<Integer> flags = config.integers("no_rope_layers");
        if (flags.size() < count) {
            throw new ModelFormatException(
                    config.file(), "'no_rope_layers' must name " + count + " layers, found " + flags.size());
        }
        for (int i = 0; i < count; i++) {
            with.add(flags.get(i) != 0);
        }
        return with;
    }
}
