package org.qlora4j.nf4.weight;

import java.util.Arrays;

/**
 * Sixteen values and the choice among them: the level whose lower and upper midpoints enclose the number, a number on a
 * midpoint taking the lower level, as {@code torch.bucketize} over {@code (code[i] + code[i+1]) / 2} does in
 * bitsandbytes.
 */
public final class Codebook {
    /** Number of values. */
    public static final int SIZE = 16;

    // 1/512 wide: fp4's midpoints around zero are 0.0026 apart, and a bin may hold one midpoint only.
    private static final float BINS_PER_UNIT = 512;

    private final float[] values;
    private final float[] decoded;
    private final byte[] codeOfRank = new byte[SIZE];
    private final byte[] rankBelowBin;
    private final float[] midpointInBin;

    Codebook(float[] values) {
        this.values = values.clone();
        this.decoded = values.clone();
        Integer[] order = new Integer[SIZE];
        Arrays.setAll(order, i -> i);
        // By value, equal values by code: fp4's zeros are codes 0 and 8, in this order.
        Arrays.sort(order, (a, b) -> values[a] != values[b] ? Float.compare(values[a], values[b]) : a - b);
        int bins = bin(1f) + 1;
        rankBelowBin = new byte[bins];
        midpointInBin = new float[bins];
        Arrays.fill(midpointInBin, Float.POSITIVE_INFINITY);
        int next = 0;
        for (int rank = 0; rank < SIZE; rank++) {
            codeOfRank[rank] = order[rank].byteValue();
            if (rank == SIZE - 1) {
                break;
            }
            float midpoint = (values[order[rank]] + values[order[rank + 1]]) / 2f;
            int bin = bin(midpoint);
            if (midpointInBin[bin] != Float.POSITIVE_INFINITY) {
                throw new IllegalArgumentException("two midpoints of a codebook are closer than " + 1 / BINS_PER_UNIT);
            }
            midpointInBin[bin] = midpoint;
            for (; next <= bin; next++) {
                rankBelowBin[next] = (byte) rank;
            }
        }
        Arrays.fill(rankBelowBin, next, bins, (byte) (SIZE - 1));
        // The native library decodes fp4's code 8 (sign bit set, magnitude 0) to -0.0, while its published table says
        // 0.0.
        for (int code = SIZE / 2; code < SIZE; code++) {
            if (values[code] == 0f && values[code - SIZE / 2] == 0f) {
                decoded[code] = -0f;
            }
        }
    }

    private static int bin(float v) {
        return (int) ((v + 1f) * BINS_PER_UNIT);
    }

    /** A copy of the 16 values as checkpoints hold them ({@code quant_map}). */
    public float[] values() {
        return values.clone();
    }

    /**
     * A copy of the 16 values that decoding multiplies by absmax; differs from {@link #values()} in the sign of fp4's
     * second zero.
     */
    public float[] decodedValues() {
        return decoded.clone();
    }

    /** The value that {@code code} (0 to 15) decodes to, before the multiplication by absmax. */
    public float decode(int code) {
        return decoded[code];
    }

    /**
     * The code of {@code v}, which is clamped to [-1, 1] first; NaN gives the code of the highest level (15 for nf4),
     * as bucketize sorts NaN last.
     */
    public int code(float v) {
        if (!(v > -1f)) {
            return codeOfRank[v <= -1f ? 0 : SIZE - 1];
        }
        // Monotonic in v: midpoints in lower bins are below v, those in higher bins above it.
        float clamped = Math.min(v, 1f);
        int bin = bin(clamped);
        int rank = rankBelowBin[bin];
        return codeOfRank[clamped > midpointInBin[bin] ? rank + 1 : rank];
    }
}
