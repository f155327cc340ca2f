package org.qlora4j.lora.model;

import java.util.List;
import org.qlora4j.nf4.file.ModelFormatException;

/**
 * Reads rotary frequencies: transformers 5 has all in {@code rope_parameters}; transformers 4 has {@code rope_theta}
 * beside {@code rope_scaling}, with "rope_type" or "type".
 */
final class RopeJson {
    private RopeJson() {}

    /** The object that holds the rope type; rope_scaling wins over rope_parameters as in transformers. */
    private static ConfigJson object(ConfigJson config) {
        return config.object(config.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
    }

    /**
     * One set of frequencies for all layers.
     *
     * @param theta if the file names none
     */
    static RopeScaling read(ConfigJson config, double theta, int rotaryDim) {
        ConfigJson rope = object(config);
        if (rope.has("full_attention") || rope.has("sliding_attention")) {
            throw new UnsupportedModelException(config.file()
                    + ": rope parameters for each layer type are not supported with model_type '"
                    + config.text("model_type", "") + "'");
        }
        return read(config, rope, config.number("rope_theta", theta), rotaryDim);
    }

    /** Gemma 3's frequencies of layers that see everything. */
    static RopeScaling readGlobal(ConfigJson config, int rotaryDim) {
        // transformers 5 has one object per layer type, transformers 4 rope_theta beside rope_scaling
        ConfigJson rope = config.object("rope_parameters").object("full_attention");
        ConfigJson scaling = config.object(config.has("rope_scaling") ? "rope_scaling" : "");
        double theta = rope.number("rope_theta", config.number("rope_theta", 1e6));
        return read(config, scaling.isEmpty() ? rope : scaling, theta, rotaryDim);
    }

    /** Gemma 3's frequencies of layers with a sliding window. */
    static RopeScaling readLocal(ConfigJson config, int rotaryDim) {
        ConfigJson rope = config.object("rope_parameters").object("sliding_attention");
        return read(config, rope, config.number("rope_local_base_freq", 1e4), rotaryDim);
    }

    /** The share of each head that is rotated. */
    static double partialRotaryFactor(ConfigJson config) {
        return object(config).number("partial_rotary_factor", config.number("partial_rotary_factor", 1));
    }

    private static RopeScaling read(ConfigJson config, ConfigJson rope, double otherTheta, int rotaryDim) {
        double theta = rope.number("rope_theta", otherTheta);
        if (!(theta > 1)) {
            throw new ModelFormatException(config.file(), "'rope_theta' must be above 1, found " + theta);
        }
        String type = rope.text("rope_type", rope.text("type", "default"));
        return switch (type) {
            case "default" -> new RopeScaling.Plain(theta);
            case "linear" -> new RopeScaling.Linear(theta, positive(rope, "factor"));
            case "llama3" ->
                new RopeScaling.Llama3(
                        theta,
                        positive(rope, "factor"),
                        positive(rope, "low_freq_factor"),
                        positive(rope, "high_freq_factor"),
                        originalMax(config, rope));
            case "dynamic" -> dynamic(config, rope, theta, rotaryDim);
            case "yarn" -> yarn(config, rope, theta);
            case "longrope", "su" -> longRope(config, rope, theta, rotaryDim);
            default ->
                throw new UnsupportedModelException(config.file() + ": rope_type '" + type
                        + "' is not supported; supported: default, linear, dynamic, llama3, yarn, longrope");
        };
    }

    /** Beside the rope parameters (Phi-3), among them, or the same as the longest sequence. */
    private static int originalMax(ConfigJson config, ConfigJson rope) {
        String key = "original_max_position_embeddings";
        int value = config.has(key)
                ? config.integer(key)
                : rope.has(key) ? (int) rope.number(key) : config.integer("max_position_embeddings");
        if (value < 1) {
            throw new ModelFormatException(config.file(), "'" + key + "' must be at least 1, found " + value);
        }
        return value;
    }

    private static RopeScaling dynamic(ConfigJson config, ConfigJson rope, double theta, int rotaryDim) {
        double factor = positive(rope, "factor");
        int max = config.integer("max_position_embeddings", 2048);
        if (factor < 1 || max < 1 || rotaryDim < 4) {
            throw new ModelFormatException(
                    config.file(),
                    "rope_type 'dynamic' needs a factor of at least 1, max_position_embeddings of at least 1 and 4 rotated"
                            + " elements of a head, found " + factor + ", " + max + ", " + rotaryDim);
        }
        return new RopeScaling.Dynamic(theta, factor, max);
    }

    private static RopeScaling yarn(ConfigJson config, ConfigJson rope, double theta) {
        int originalMax = originalMax(config, rope);
        double factor = factor(config, rope, originalMax);
        double m = rope.number("mscale", 0);
        double all = rope.number("mscale_all_dim", 0);
        double attention = m != 0 && all != 0
                ? RopeScaling.Yarn.mscale(factor, m) / RopeScaling.Yarn.mscale(factor, all)
                : RopeScaling.Yarn.mscale(factor, 1);
        return new RopeScaling.Yarn(
                theta,
                factor,
                rope.number("attention_factor", attention),
                notZero(rope, "beta_fast", 32),
                notZero(rope, "beta_slow", 1),
                originalMax,
                rope.bool("truncate", true));
    }

    private static RopeScaling longRope(ConfigJson config, ConfigJson rope, double theta, int rotaryDim) {
        int originalMax = originalMax(config, rope);
        double factor = factor(config, rope, originalMax);
        double attention = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMax));
        return new RopeScaling.LongRope(
                theta,
                factors(rope, "short_factor", rotaryDim),
                factors(rope, "long_factor", rotaryDim),
                rope.number("attention_factor", attention),
                originalMax);
    }

    private static double factor(ConfigJson config, ConfigJson rope, int originalMax) {
        return rope.has("factor")
                ? positive(rope, "factor")
                : (double) config.integer("max_position_embeddings") / originalMax;
    }

    private static List<Double> factors(ConfigJson rope, String key, int rotaryDim) {
        List<Double> factors = rope.numbers(key);
        int expected = (rotaryDim + 1) / 2;
        if (factors.size() != expected || factors.stream().anyMatch(f -> f <= 0)) {
            throw new ModelFormatException(
                    rope.file(), "'" + key + "' must hold " + expected + " positive numbers, found " + factors);
        }
        return factors;
    }

    /** transformers reads 0 as "not given" here. */
    private static double notZero(ConfigJson rope, String key, double otherwise) {
        double value = rope.number(key, otherwise);
        return value == 0 ? otherwise : value;
    }

    private static double positive(ConfigJson rope, String key) {
        double value = rope.number(key);
        if (!(value > 0)) {
            throw new ModelFormatException(rope.file(), "'" + key + "' must be positive, found " + value);
        }
        return value;
    }
}
