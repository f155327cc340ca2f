package org.qlora4j.nf4.file;

import java.nio.ByteBuffer;

/**
 * Quantization to GGUF blocks, to the byte as ggml's reference code.
 *
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c">quantize_row_q8_0_ref and its like</a>
 */
final class GgufQuantizer {
    private static final int BLOCK = 32;

    private GgufQuantizer() {}

    /** Whether {@link #quantize} knows a type. */
    static boolean knows(GgufType type) {
        return type == GgufType.Q8_0 || type == GgufType.Q4_0;
    }

    /** Encodes {@code blocks} blocks at {@code src[from …]} into little-endian dst. */
    static void quantize(GgufType type, float[] src, int from, int blocks, ByteBuffer dst) {
        for (int b = 0; b < blocks; b++) {
            switch (type) {
                case Q8_0 -> q8(src, from + b * BLOCK, dst);
                case Q4_0 -> q4(src, from + b * BLOCK, dst);
                default -> throw new IllegalArgumentException("cannot quantize to " + type + "; can to Q8_0, Q4_0");
            }
        }
    }

    /** {@code d = max|x| / 127}, codes round(x / d), halves away from zero. */
    private static void q8(float[] x, int from, ByteBuffer dst) {
        float max = 0f;
        for (int i = 0; i < BLOCK; i++) {
            max = Math.max(max, Math.abs(x[from + i]));
        }
        float d = max / 127;
        float reciprocal = d != 0 ? 1f / d : 0f;
        dst.putShort(FloatFormats.floatToF16(d));
        for (int i = 0; i < BLOCK; i++) {
            dst.put((byte) roundHalfAway(x[from + i] * reciprocal));
        }
    }

    private static int roundHalfAway(float v) {
        float magnitude = Math.abs(v);
        int whole = (int) magnitude;
        int rounded = magnitude - whole >= 0.5f ? whole + 1 : whole;
        return v < 0 ? -rounded : rounded;
    }

    /** The value of largest magnitude becomes code 0: {@code d = x / -8}, codes trunc(x / d + 8.5), at most 15. */
    private static void q4(float[] x, int from, ByteBuffer dst) {
        float max = 0f;
        float largest = 0f;
        for (int i = 0; i < BLOCK; i++) {
            float magnitude = Math.abs(x[from + i]);
            if (max < magnitude) {
                max = magnitude;
                largest = x[from + i];
            }
        }
        float d = largest / -8;
        float reciprocal = d != 0 ? 1f / d : 0f;
        dst.putShort(FloatFormats.floatToF16(d));
        for (int i = 0; i < BLOCK / 2; i++) {
            int low = code4(x[from + i] * reciprocal);
            int high = code4(x[from + BLOCK / 2 + i] * reciprocal);
            dst.put((byte) (high << 4 | low));
        }
    }

    private static int code4(float scaled) {
        return Math.min(15, (int) (scaled + 8.5f) & 255);
    }
}
