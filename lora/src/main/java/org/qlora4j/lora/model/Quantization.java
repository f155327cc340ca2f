package org.qlora4j.lora.model;

import java.util.List;
import org.qlora4j.nf4.weight.QuantType;

/**
 * How linear layers are quantized when a model is loaded: bitsandbytes' {@code bnb_4bit_…} options.
 *
 * @param type {@code bnb_4bit_quant_type}
 * @param blockSize elements per scale, 64 in bitsandbytes
 * @param doubleQuant {@code bnb_4bit_use_double_quant}
 * @param skipModules {@code llm_int8_skip_modules}: layers that stay in floating point, besides the output layer
 */
public record Quantization(QuantType type, int blockSize, boolean doubleQuant, List<String> skipModules) {
    /** QLoRA's: NF4, blocks of 64, double quantization. */
    public static final Quantization NF4_DOUBLE = new Quantization(QuantType.NF4, 64, true);

    /** @throws IllegalArgumentException if the block size is none or a skipped module is no regular expression */
    public Quantization {
        QuantType.checkBlockSize(blockSize);
        skipModules = checkedSkips(skipModules);
    }

    /** All linear layers but the output layer. */
    public Quantization(QuantType type, int blockSize, boolean doubleQuant) {
        this(type, blockSize, doubleQuant, List.of());
    }

    /** Whether a layer is quantized. @param module full name, e.g. {@code model.layers.0.mlp.down_proj} */
    public boolean quantizes(String module) {
        return !skips(skipModules, module);
    }

    /**
     * Whether a layer stays as it is: if a skipped module is the end of its name, or, as a regular expression, matches
     * its name from the start up to a dot or the end (transformers' {@code should_convert_module}).
     */
    static boolean skips(List<String> skipModules, String module) {
        return skipModules.stream()
                .anyMatch(skip -> module.endsWith(skip) || pattern(skip).matchesStart(module));
    }

    /** @throws IllegalArgumentException if one is no regular expression */
    static List<String> checkedSkips(List<String> skipModules) {
        skipModules.forEach(Quantization::pattern);
        return List.copyOf(skipModules);
    }

    private static NamePattern pattern(String skip) {
        try {
            NamePattern.of(skip);
            return NamePattern.of("(?:" + skip + ")(?:(?<=\\.)|(?=\\.|$))");
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("llm_int8_skip_modules: " + e.getMessage(), e);
        }
    }
}
