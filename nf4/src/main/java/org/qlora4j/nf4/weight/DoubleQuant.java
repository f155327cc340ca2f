package org.qlora4j.nf4.weight;

/**
 * Quantization of the scales of a 4-bit weight: {@code absmax - mean(absmax)} in 8 bits, 256 to a block, with the
 * signed dynamic map. It brings the scales from 0.5 to 0.127 bits per element at block size 64.
 *
 * @see <a href="https://arxiv.org/abs/2305.14314">Dettmers et al. 2023, section 3</a>
 */
public final class DoubleQuant {
    /** Scales per second-level scale. */
    public static final int BLOCK_SIZE = 256;

    private static final Blockwise8 SIGNED = new Blockwise8(DynamicMap.signed());

    private DoubleQuant() {}

    /**
     * Quantized scales: {@code absmax[b] = map[codes[b]] · absmax2[b / 256] + offset}.
     *
     * @param codes one per block
     * @param absmax2 one per 256 codes
     * @param offset the mean of the scales
     */
    public record Nested(byte[] codes, float[] absmax2, float offset) {}

    /** Double quantization with the mean as offset. */
    public static Nested quantize(float[] absmax) {
        return quantize(absmax, TorchMean.of(absmax));
    }

    /** Double quantization with a given offset; codes as libbitsandbytes' CPU library gives them. */
    public static Nested quantize(float[] absmax, float offset) {
        float[] centred = new float[absmax.length];
        for (int i = 0; i < absmax.length; i++) {
            centred[i] = absmax[i] - offset;
        }
        byte[] codes = new byte[absmax.length];
        float[] absmax2 = new float[(int) BlockQuantizer.blocks(absmax.length, BLOCK_SIZE)];
        SIGNED.quantize(Blockwise8.Rule.TABLE, BLOCK_SIZE, centred, 0, centred.length, codes, 0, absmax2, 0);
        return new Nested(codes, absmax2, offset);
    }

    /**
     * {@code map[code] · absmax2 + offset}, two roundings.
     *
     * @param map 256 values, {@link DynamicMap#signed()} unless a checkpoint says otherwise
     */
    public static float[] dequantize(Nested nested, float[] map) {
        float[] absmax = new float[nested.codes.length];
        for (int i = 0; i < absmax.length; i++) {
            float scaled = map[nested.codes[i] & 255] * nested.absmax2[i / BLOCK_SIZE];
            absmax[i] = scaled + nested.offset;
        }
        return absmax;
    }
}
