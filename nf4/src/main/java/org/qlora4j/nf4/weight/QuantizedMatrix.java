package org.qlora4j.nf4.weight;

import org.jspecify.annotations.Nullable;

/**
 * A 4-bit matrix on the host, as bitsandbytes' checkpoints hold it.
 *
 * @param type codebook
 * @param blockSize elements per scale
 * @param rows output features
 * @param cols input features
 * @param packed two codes a byte, the first in the high nibble
 * @param absmax one scale per block, before double quantization
 * @param nested the scales in 8 bits, or null
 */
public record QuantizedMatrix(
        QuantType type,
        int blockSize,
        int rows,
        int cols,
        byte[] packed,
        float[] absmax,
        DoubleQuant.@Nullable Nested nested) {
    /** Elements that are read and quantized at a time: a multiple of every block size. */
    private static final int CHUNK = 1 << 20;

    private static final int LARGEST_BLOCK = 4096;

    /** Gives the values of a matrix. */
    @FunctionalInterface
    public interface Rows {
        /**
         * Reads some rows.
         *
         * @param firstRow first row
         * @param rows number of rows
         * @param dst their values, from index 0 on
         */
        void read(int firstRow, int rows, float[] dst);
    }

    /**
     * Quantizes a matrix that is read piece by piece: besides the result about 4 MiB are held.
     *
     * @param doubleQuant whether the scales are quantized too
     * @param source the values
     * @throws IllegalArgumentException if the block size is none or the matrix has 2^32 elements or more
     */
    public static QuantizedMatrix quantize(
            QuantType type, int blockSize, boolean doubleQuant, int rows, int cols, Rows source) {
        QuantType.checkBlockSize(blockSize);
        long n = (long) rows * cols;
        if (BlockQuantizer.packedBytes(n) > Integer.MAX_VALUE - 8) {
            throw new IllegalArgumentException(
                    "a matrix [" + rows + ", " + cols + "] is too large: one matrix may have 2^32 elements");
        }
        byte[] packed = new byte[(int) BlockQuantizer.packedBytes(n)];
        float[] absmax = new float[(int) BlockQuantizer.blocks(n, blockSize)];
        int step = rowsPerChunk(cols);
        float[] values = new float[Math.multiplyExact(Math.min(step, rows), cols)];
        for (int row = 0; row < rows; row += step) {
            int count = Math.min(step, rows - row);
            source.read(row, count, values);
            long first = (long) row * cols;
            BlockQuantizer.quantize(type, blockSize, values, 0, count * cols, packed, (int) (first / 2), absmax, (int)
                    (first / blockSize));
        }
        return new QuantizedMatrix(
                type, blockSize, rows, cols, packed, absmax, doubleQuant ? DoubleQuant.quantize(absmax) : null);
    }

    /** Rows that hold whole blocks of every size, whatever the row length. */
    private static int rowsPerChunk(int cols) {
        int unit = LARGEST_BLOCK / Math.min(LARGEST_BLOCK, Integer.lowestOneBit(cols));
        return Math.max(unit, CHUNK / cols / unit * unit);
    }
}
