package org.qlora4j.nf4.weight;

import java.util.Objects;

/**
 * 8-bit blockwise quantization with a map of 256 values: {@code map[code] * absmax}. It has two rules for choosing a
 * code, because bitsandbytes has: its CPU library looks it up in a table of 65,536 bins, its GPU kernels search the
 * nearest value.
 *
 * <p>Like {@link BlockQuantizer} these methods may run on disjoint pieces of whole blocks at the same time.
 */
public final class Blockwise8 {
    private static final int BINS = 65_536;

    private final float[] map;
    private final byte[] codeOfBin = new byte[BINS];

    /**
     * Prepares the rules for one map.
     *
     * @param map 256 ascending values, such as {@link DynamicMap#signed()}
     * @throws IllegalArgumentException if there are not 256 values or they do not ascend
     */
    public Blockwise8(float[] map) {
        this.map = checkMap(map).clone();
        int code = 0;
        for (int bin = 0; bin < BINS; bin++) {
            float value = -1f + 2f * bin / (BINS - 1);
            while (code < DynamicMap.SIZE - 1 && (map[code] + map[code + 1]) / 2f < value) {
                code++;
            }
            codeOfBin[bin] = (byte) code;
        }
    }

    private static float[] checkMap(float[] map) {
        if (map.length != DynamicMap.SIZE) {
            throw new IllegalArgumentException("a map of 8-bit codes has 256 values, got " + map.length);
        }
        for (int i = 1; i < map.length; i++) {
            if (!(map[i - 1] <= map[i])) {
                throw new IllegalArgumentException(
                        "a map of 8-bit codes must ascend; value " + i + " is " + map[i] + " after " + map[i - 1]);
            }
        }
        return map;
    }

    /** A copy of the map. */
    public float[] map() {
        return map.clone();
    }

    /** The value of {@code code}, before the multiplication by absmax. */
    public float decode(byte code) {
        return map[code & 0xff];
    }

    /**
     * The CPU library's code of {@code v}, clamped to [-1, 1]: that of the nearest of 65,536 evenly spaced numbers, so
     * small values may miss the nearest entry. NaN gives code 0.
     */
    public byte tableCode(float v) {
        float clamped = Math.max(-1f, Math.min(1f, v));
        return codeOfBin[(int) ((clamped + 1f) * 0.5f * (BINS - 1) + 0.5f)];
    }

    /**
     * The GPU kernels' code of {@code v}: the nearest entry by seven steps of bisection; halfway between two entries
     * the one the search ended on wins (csrc/kernels.cu, dQuantize).
     */
    public byte nearestCode(float v) {
        int pivot = 127;
        int upperPivot = 255;
        int lowerPivot = 0;
        for (int step = 64; step > 0; step >>= 1) {
            if (v > map[pivot]) {
                lowerPivot = pivot;
                pivot += step;
            } else {
                upperPivot = pivot;
                pivot -= step;
            }
        }
        if (v > map[pivot]) {
            return (byte) (v > (map[upperPivot] + map[pivot]) * 0.5f ? upperPivot : pivot);
        }
        return (byte) (v < (map[lowerPivot] + map[pivot]) * 0.5f ? lowerPivot : pivot);
    }

    /** Which of the two rules picks a code. */
    public enum Rule {
        /** {@link Blockwise8#tableCode}: bytes equal to bitsandbytes on a CPU. */
        TABLE,
        /** {@link Blockwise8#nearestCode}: bytes equal to bitsandbytes on a GPU, up to its fast arithmetic. */
        NEAREST
    }

    /**
     * Quantizes: per block {@code absmax = max|x|} and the code of {@code x * (1 / absmax)}; a block of zeros has
     * absmax 0 and, by the table rule, code 0.
     *
     * @param rule how to choose a code
     * @param blockSize elements per scale, at least 1
     * @param x values; {@code x[from]} is the first element of a block
     * @param from first element in {@code x}
     * @param count elements
     * @param codes result, one byte an element
     * @param codesFrom where the first code goes
     * @param absmax result, one scale a block
     * @param absmaxFrom where the first scale goes
     * @throws IllegalArgumentException if the block size is below 1
     * @throws IndexOutOfBoundsException if a range does not fit its array
     */
    public void quantize(
            Rule rule,
            int blockSize,
            float[] x,
            int from,
            int count,
            byte[] codes,
            int codesFrom,
            float[] absmax,
            int absmaxFrom) {
        checkBlockSize(blockSize);
        Objects.checkFromIndexSize(from, count, x.length);
        Objects.checkFromIndexSize(codesFrom, count, codes.length);
        Objects.checkFromIndexSize(absmaxFrom, (int) BlockQuantizer.blocks(count, blockSize), absmax.length);
        for (int done = 0, block = absmaxFrom; done < count; done += blockSize, block++) {
            int n = Math.min(blockSize, count - done);
            float max = BlockQuantizer.maxAbs(x, from + done, n);
            absmax[block] = max;
            float reciprocal = 1f / max;
            for (int i = 0; i < n; i++) {
                float v = x[from + done + i] * reciprocal;
                codes[codesFrom + done + i] = rule == Rule.TABLE ? tableCode(v) : nearestCode(v);
            }
        }
    }

    /**
     * Decodes {@code out[i] = map[code] * absmax}, block by block from the arrays' given places.
     *
     * @throws IllegalArgumentException if the block size is below 1
     * @throws IndexOutOfBoundsException if a range does not fit its array
     */
    public void dequantize(
            int blockSize,
            byte[] codes,
            int codesFrom,
            int count,
            float[] absmax,
            int absmaxFrom,
            float[] out,
            int outFrom) {
        checkBlockSize(blockSize);
        Objects.checkFromIndexSize(codesFrom, count, codes.length);
        Objects.checkFromIndexSize(absmaxFrom, (int) BlockQuantizer.blocks(count, blockSize), absmax.length);
        Objects.checkFromIndexSize(outFrom, count, out.length);
        for (int i = 0; i < count; i++) {
            out[outFrom + i] = map[codes[codesFrom + i] & 0xff] * absmax[absmaxFrom + i / blockSize];
        }
    }

    private static void checkBlockSize(int blockSize) {
        if (blockSize < 1) {
            throw new IllegalArgumentException("the block size must be at least 1, got " + blockSize);
        }
    }
}
