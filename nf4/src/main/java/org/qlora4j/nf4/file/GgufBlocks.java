package org.qlora4j.nf4.file;

/**
 * Dequantization of GGUF blocks, with the roundings of the {@code gguf} Python package (scale in fp32, one product, one
 * sum).
 *
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md">the format</a>
 */
final class GgufBlocks {
    /** The float that changes nothing when added: +0 would turn the -0 of a negative scale into +0. */
    private static final float NO_MINIMUM = -0f;

    private GgufBlocks() {}

    /** Decodes {@code blocks} blocks at {@code src[at …]} to {@code dst[to …]}. */
    static void dequantize(GgufType type, byte[] src, int at, int blocks, float[] dst, int to) {
        for (int b = 0; b < blocks; b++) {
            switch (type) {
                case Q4_0 -> nibbles(src, at + 2, f16(src, at), -8, NO_MINIMUM, dst, to);
                case Q4_1 -> nibbles(src, at + 4, f16(src, at), 0, f16(src, at + 2), dst, to);
                case Q5_0 -> fiveBits(src, at + 6, int32(src, at + 2), f16(src, at), -16, NO_MINIMUM, dst, to);
                case Q5_1 -> fiveBits(src, at + 8, int32(src, at + 4), f16(src, at), 0, f16(src, at + 2), dst, to);
                case Q8_0 -> {
                    float d = f16(src, at);
                    for (int i = 0; i < 32; i++) {
                        dst[to + i] = d * src[at + 2 + i];
                    }
                }
                case Q4_K -> q45K(src, at, at + 16, -1, dst, to);
                case Q5_K -> q45K(src, at, at + 48, at + 16, dst, to);
                case Q6_K -> q6K(src, at, dst, to);
                default -> GgufRareBlocks.dequantize(type, src, at, dst, to);
            }
            at += type.blockBytes();
            to += type.blockSize();
        }
    }

    static float f16(byte[] src, int at) {
        return Float.float16ToFloat((short) (src[at] & 255 | src[at + 1] << 8));
    }

    static int int32(byte[] src, int at) {
        return src[at] & 255 | (src[at + 1] & 255) << 8 | (src[at + 2] & 255) << 16 | src[at + 3] << 24;
    }

    /** 32 values: the low nibbles of 16 bytes, then the high ones. */
    private static void nibbles(byte[] src, int qs, float d, int shift, float m, float[] dst, int to) {
        for (int i = 0; i < 16; i++) {
            dst[to + i] = d * ((src[qs + i] & 15) + shift) + m;
            dst[to + 16 + i] = d * ((src[qs + i] >> 4 & 15) + shift) + m;
        }
    }

    /** As nibbles, with bit i of {@code high} as fifth bit of value i. */
    private static void fiveBits(byte[] src, int qs, int high, float d, int shift, float m, float[] dst, int to) {
        for (int i = 0; i < 16; i++) {
            int low = src[qs + i] & 15 | (high >>> i & 1) << 4;
            int up = src[qs + i] >> 4 & 15 | (high >>> 16 + i & 1) << 4;
            dst[to + i] = d * (low + shift) + m;
            dst[to + 16 + i] = d * (up + shift) + m;
        }
    }

    /**
     * Q4_K and Q5_K: 8 groups of 32 values with a 6-bit scale and minimum each; {@code qh} is -1 where there is no
     * fifth bit.
     */
    private static void q45K(byte[] src, int at, int qs, int qh, float[] dst, int to) {
        float d = f16(src, at);
        float dmin = f16(src, at + 2);
        int s = at + 4;
        for (int g = 0; g < 8; g++) {
            int scale;
            int min;
            if (g < 4) {
                scale = src[s + g] & 63;
                min = src[s + g + 4] & 63;
            } else {
                scale = src[s + g + 4] & 15 | (src[s + g - 4] >> 6 & 3) << 4;
                min = src[s + g + 4] >> 4 & 15 | (src[s + g] >> 6 & 3) << 4;
            }
            float ds = d * scale;
            float dm = dmin * min;
            for (int i = 0; i < 32; i++) {
                int q = src[qs + g / 2 * 32 + i] >> (g % 2 * 4) & 15;
                if (qh >= 0) {
                    q |= (src[qh + i] >> g & 1) << 4;
                }
                dst[to + g * 32 + i] = ds * q - dm;
            }
        }
    }

    private static void q6K(byte[] src, int at, float[] dst, int to) {
        float d = f16(src, at + 208);
        for (int half = 0; half < 2; half++) {
            int ql = at + half * 64;
            int qh = at + 128 + half * 32;
            int sc = at + 192 + half * 8;
            for (int part = 0; part < 4; part++) {
                for (int i = 0; i < 32; i++) {
                    int low = src[ql + part % 2 * 32 + i] >> (part / 2 * 4) & 15;
                    int q = (low | (src[qh + i] >> part * 2 & 3) << 4) - 32;
                    dst[to + half * 128 + part * 32 + i] = d * src[sc + part * 2 + i / 16] * q;
                }
            }
        }
    }
}
