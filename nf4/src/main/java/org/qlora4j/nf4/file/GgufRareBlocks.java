package org.qlora4j.nf4.file;

/**
 * Dequantization of the block types that are met less often: Q2_K, Q3_K, Q8_K, IQ4_NL, IQ4_XS; see {@link GgufBlocks}.
 */
final class GgufRareBlocks {
    /** The 16 levels of IQ4_NL and IQ4_XS, denser around zero. */
    private static final byte[] IQ4_LEVELS = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

    private GgufRareBlocks() {}

    /** Decodes the block at {@code src[at …]} to {@code dst[to …]}. */
    static void dequantize(GgufType type, byte[] src, int at, float[] dst, int to) {
        switch (type) {
            case Q2_K -> q2K(src, at, dst, to);
            case Q3_K -> q3K(src, at, dst, to);
            case Q8_K -> q8K(src, at, dst, to);
            case IQ4_NL -> iq4(src, at + 2, GgufBlocks.f16(src, at), dst, to);
            case IQ4_XS -> iq4Xs(src, at, dst, to);
            default -> throw new IllegalArgumentException(type + " has no blocks");
        }
    }

    /**
     * Two bits per value in the order that Q2_K and Q3_K share: 2 halves of 128 values; in each, bit pair {@code j} of
     * 32 bytes is group {@code j} of 32 values.
     */
    private static int twoBits(byte[] src, int qs, int i) {
        return src[qs + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    }

    /** 16 groups of 16 values; one byte each holds a 4-bit scale (low) and a 4-bit minimum (high). */
    private static void q2K(byte[] src, int at, float[] dst, int to) {
        float d = GgufBlocks.f16(src, at + 80);
        float dmin = GgufBlocks.f16(src, at + 82);
        for (int g = 0; g < 16; g++) {
            float scale = d * (src[at + g] & 15);
            float min = dmin * (src[at + g] >> 4 & 15);
            for (int i = g * 16; i < g * 16 + 16; i++) {
                dst[to + i] = scale * twoBits(src, at + 16, i) - min;
            }
        }
    }

    /** 16 groups of 16 values with a signed 6-bit scale; a clear bit in the mask subtracts 4. */
    private static void q3K(byte[] src, int at, float[] dst, int to) {
        float d = GgufBlocks.f16(src, at + 108);
        int scales = at + 96;
        for (int g = 0; g < 16; g++) {
            int low = src[scales + g % 8] >> g / 8 * 4 & 15;
            int high = src[scales + 8 + g % 4] >> g / 4 * 2 & 3;
            float scale = d * ((low | high << 4) - 32);
            for (int i = g * 16; i < g * 16 + 16; i++) {
                int third = src[at + i % 32] >> i / 32 & 1;
                dst[to + i] = scale * (twoBits(src, at + 32, i) - 4 * (1 - third));
            }
        }
    }

    private static void q8K(byte[] src, int at, float[] dst, int to) {
        float d = Float.intBitsToFloat(GgufBlocks.int32(src, at));
        for (int i = 0; i < 256; i++) {
            dst[to + i] = d * src[at + 4 + i];
        }
    }

    /** 32 values: the levels of the low nibbles of 16 bytes, then of the high ones. */
    private static void iq4(byte[] src, int qs, float scale, float[] dst, int to) {
        for (int i = 0; i < 16; i++) {
            dst[to + i] = scale * IQ4_LEVELS[src[qs + i] & 15];
            dst[to + 16 + i] = scale * IQ4_LEVELS[src[qs + i] >> 4 & 15];
        }
    }

    /** 8 groups of 32 values with a signed 6-bit scale: 4 low bits in bytes 4 to 7, 2 high bits in bytes 2 and 3. */
    private static void iq4Xs(byte[] src, int at, float[] dst, int to) {
        float d = GgufBlocks.f16(src, at);
        for (int g = 0; g < 8; g++) {
            int low = src[at + 4 + g / 2] >> g % 2 * 4 & 15;
            int high = src[at + 2 + g / 4] >> g % 4 * 2 & 3;
            iq4(src, at + 8 + g * 16, d * ((low | high << 4) - 32), dst, to + g * 32);
        }
    }
}
