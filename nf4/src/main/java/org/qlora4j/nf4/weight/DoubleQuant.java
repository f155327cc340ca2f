package org.qlora4j.nf4.weight;

import java.util.Objects;

/**
 * 8-bit blockwise quantization, and its use on the scales of a 4-bit weight (double quantization).
 *
 * @see <a href="https://arxiv.org/abs/2305.14314">Dettmers et al. 2023, section 3</a>
 */
public final class DoubleQuant {
    /** Scales per second-level scale. */
    public static final int BLOCK_SIZE = 256;

    private static final int BINS = 65536;

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
        return quantize(absmax, mean(absmax));
    }

    /** Double quantization with a given offset; codes as libbitsandbytes' CPU library gives them. */
    public static Nested quantize(float[] absmax, float offset) {
        float[] centred = new float[absmax.length];
        for (int i = 0; i < absmax.length; i++) {
            centred[i] = absmax[i] - offset;
        }
        byte[] codes = new byte[absmax.length];
        float[] absmax2 = new float[(absmax.length + BLOCK_SIZE - 1) / BLOCK_SIZE];
        quantize8Bit(DynamicMap.signed(), BLOCK_SIZE, centred, codes, absmax2);
        return new Nested(codes, absmax2, offset);
    }

    /** The mean in double, rounded once: within one ulp of torch.mean, whose last bit depends on its order of summation. */
    static float mean(float[] values) {
        double sum = 0;
        for (float v : values) {
            sum += v;
        }
        return values.length == 0 ? 0 : (float) (sum / values.length);
    }

    /** {@code map[code] · absmax2 + offset}, two roundings. */
    public static float[] dequantize(Nested nested, float[] map) {
        float[] absmax = new float[nested.codes.length];
        for (int i = 0; i < absmax.length; i++) {
            float scaled = map[nested.codes[i] & 255] * nested.absmax2[i / BLOCK_SIZE];
            absmax[i] = scaled + nested.offset;
        }
        return absmax;
    }

    /**
     * 8-bit blockwise quantization as libbitsandbytes' CPU library does it: the value is scaled by 1/absmax, put into one of 65,536
     * bins of [-1, 1], and the bin's nearest map entry is the code. A block of zeros gets code 0.
     *
     * @param map 256 ascending values
     * @param blockSize values per scale
     * @param x values
     * @param codes result, as many as x
     * @param absmax result, one per block
     */
    public static void quantize8Bit(float[] map, int blockSize, float[] x, byte[] codes, float[] absmax) {
        Objects.checkFromIndexSize(0, x.length, codes.length);
        byte[] table = table(map);
        for (int b = 0; b * (long) blockSize < x.length; b++) {
            int from = b * blockSize;
            int to = Math.min(x.length, from + blockSize);
            float max = 0;
            for (int i = from; i < to; i++) {
                max = Math.max(max, Math.abs(x[i]));
            }
            absmax[b] = max;
            if (max == 0) {
                java.util.Arrays.fill(codes, from, to, (byte) 0);
                continue;
            }
            float reciprocal = 1f / max;
            for (int i = from; i < to; i++) {
                float v = Math.max(-1f, Math.min(1f, x[i] * reciprocal));
                codes[i] = table[(int) ((v + 1f) * 0.5f * (BINS - 1) + 0.5f)];
            }
        }
    }

    private static byte[] table(float[] map) {
        byte[] table = new byte[BINS];
        int c = 0;
        for (int i = 0; i < BINS; i++) {
            float v = -1f + 2f * i / (BINS - 1);
            while (c < map.length - 1 && (map[c] + map[c + 1]) * 0.5f < v) {
                c++;
            }
            table[i] = (byte) c;
        }
        return table;
    }
}
