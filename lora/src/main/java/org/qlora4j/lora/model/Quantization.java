package org.qlora4j.lora.model;

import org.qlora4j.nf4.weight.QuantType;

/**
 * How linear layers are quantized when a model is loaded: bitsandbytes' {@code bnb_4bit_…} options.
 *
 * @param type {@code bnb_4bit_quant_type}
 * @param blockSize elements per scale, 64 in bitsandbytes
 * @param doubleQuant {@code bnb_4bit_use_double_quant}
 */
public record Quantization(QuantType type, int blockSize, boolean doubleQuant) {
    /** QLoRA's: NF4, blocks of 64, double quantization. */
    public static final Quantization NF4_DOUBLE = new Quantization(QuantType.NF4, 64, true);

    public Quantization {
        QuantType.checkBlockSize(blockSize);
    }
}
