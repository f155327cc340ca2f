package org.qlora4j.nf4.weight;

import java.util.Objects;

/**
 * 4-bit quantization of a flattened tensor, bit for bit as bitsandbytes' CPU path does it.
 *
 * <p>The methods work on a piece of the tensor that starts on a block boundary, so that threads can share one tensor:
 * pieces of whole blocks touch disjoint bytes and scales. Only the piece that ends the tensor may end within a block.
 *
 * @see <a href="https://arxiv.org/abs/2305.14314">Dettmers et al. 2023, section 3</a>
 */
public final class BlockQuantizer {
    /** bitsandbytes divides by at least this, so that a block of zeros does not divide by zero. */
    private static final float MIN_ABSMAX = 1e-38f;

    private BlockQuantizer() {}

    /** Bytes that {@code n} elements take: two to a byte, rounded up. */
    public static long packedBytes(long n) {
        return n / 2 + n % 2;
    }

    /** Blocks of {@code n} elements, the last one perhaps short. */
    public static long blocks(long n, int blockSize) {
        return n / blockSize + (n % blockSize == 0 ? 0 : 1);
    }

    /**
     * Quantizes {@code count} elements: per block {@code absmax = max|x|} and the code of {@code x * (1 / absmax)}; a
     * short last block divides {@code x / absmax} instead. An odd last element shares its byte with the code of 0.
     *
     * @param type codebook
     * @param blockSize a power of two from 32 to 4096
     * @param x values; {@code x[from]} is the first element of a block
     * @param from first element in {@code x}
     * @param count elements; not a multiple of the block size only where the tensor ends
     * @param packed result, two codes a byte, the first in the high nibble
     * @param packedFrom where the piece's first byte goes
     * @param absmax result, one scale a block
     * @param absmaxFrom where the piece's first scale goes
     * @throws IllegalArgumentException if the block size is none
     * @throws IndexOutOfBoundsException if a range does not fit its array
     */
    public static void quantize(
            QuantType type,
            int blockSize,
            float[] x,
            int from,
            int count,
            byte[] packed,
            int packedFrom,
            float[] absmax,
            int absmaxFrom) {
        QuantType.checkBlockSize(blockSize);
        Objects.checkFromIndexSize(from, count, x.length);
        Objects.checkFromIndexSize(packedFrom, (int) packedBytes(count), packed.length);
        Objects.checkFromIndexSize(absmaxFrom, (int) blocks(count, blockSize), absmax.length);
        Codebook codebook = type.codebook();
        int full = count / blockSize;
        for (int b = 0; b < full; b++) {
            int start = from + b * blockSize;
            float max = maxAbs(x, start, blockSize);
            absmax[absmaxFrom + b] = max;
            float reciprocal = 1f / Math.max(max, MIN_ABSMAX);
            int out = packedFrom + b * (blockSize / 2);
            for (int i = 0; i < blockSize; i += 2) {
                int high = codebook.code(x[start + i] * reciprocal);
                int low = codebook.code(x[start + i + 1] * reciprocal);
                packed[out++] = (byte) (high << 4 | low);
            }
        }
        int rest = count - full * blockSize;
        if (rest > 0) {
            int start = from + full * blockSize;
            // Here, unlike in full blocks, the stored scale is the clamped one.
            float max = Math.max(maxAbs(x, start, rest), MIN_ABSMAX);
            absmax[absmaxFrom + full] = max;
            int out = packedFrom + full * (blockSize / 2);
            for (int i = 0; i < rest; i += 2) {
                int high = codebook.code(x[start + i] / max);
                int low = codebook.code(i + 1 < rest ? x[start + i + 1] / max : 0f);
                packed[out++] = (byte) (high << 4 | low);
            }
        }
    }

    /** The largest magnitude; NaN if there is one, as torch's max. */
    static float maxAbs(float[] x, int from, int count) {
        float max = 0f;
        for (int i = from; i < from + count; i++) {
            max = Math.max(max, Math.abs(x[i]));
        }
        return max;
    }

    /**
     * Decodes {@code out[i] = code[nibble] * absmax} of any range of elements.
     *
     * @param type codebook
     * @param blockSize elements per scale
     * @param packed the whole tensor's codes
     * @param absmax the whole tensor's scales
     * @param first first element
     * @param count elements
     * @param out result
     * @param outFrom where the first element goes
     * @throws IndexOutOfBoundsException if a range does not fit its array
     */
    public static void dequantize(
            QuantType type,
            int blockSize,
            byte[] packed,
            float[] absmax,
            long first,
            int count,
            float[] out,
            int outFrom) {
        QuantType.checkBlockSize(blockSize);
        Objects.checkFromIndexSize(first, count, 2L * packed.length);
        Objects.checkFromIndexSize(first, count, (long) blockSize * absmax.length);
        Objects.checkFromIndexSize(outFrom, count, out.length);
        Codebook codebook = type.codebook();
        for (int i = 0; i < count; i++) {
            long element = first + i;
            int pair = packed[(int) (element >> 1)];
            int code = (element & 1) == 0 ? pair >> 4 & 15 : pair & 15;
            out[outFrom + i] = codebook.decode(code) * absmax[(int) (element / blockSize)];
        }
    }
}
