package org.qlora4j.nf4.weight;

/**
 * The mean of fp32 numbers with the roundings of {@code torch.mean} on one AVX2 thread, so that an offset computed here
 * is the one bitsandbytes computes there. Sums are cascaded: 32 partial sums (4 rows of 8 lanes), each in levels of at
 * least 16 terms (aten/src/ATen/native/cpu/SumKernel.cpp).
 */
final class TorchMean {
    private static final int LANES = 8;
    private static final int ROWS = 4;
    private static final int LEVELS = 4;

    private TorchMean() {}

    static float of(float[] x) {
        return sum(x) / x.length;
    }

    private static float sum(float[] x) {
        if (x.length < LANES) {
            return rowSum(x, 0, 1, x.length);
        }
        int vectors = x.length / LANES;
        float total = 0f;
        for (int i = vectors * LANES; i < x.length; i++) {
            total += x[i];
        }
        for (int lane = 0; lane < LANES; lane++) {
            total += rowSum(x, lane, LANES, vectors);
        }
        return total;
    }

    /** Sum of the {@code size} numbers at {@code from, from + stride, …}. */
    private static float rowSum(float[] x, int from, int stride, int size) {
        int steps = size / ROWS;
        float[] rows = new float[ROWS];
        for (int row = 0; row < ROWS; row++) {
            rows[row] = cascadeSum(x, from + row * stride, stride * ROWS, steps);
        }
        for (int i = steps * ROWS; i < size; i++) {
            rows[0] += x[from + i * stride];
        }
        return rows[0] + rows[1] + rows[2] + rows[3];
    }

    private static float cascadeSum(float[] x, int from, int stride, int size) {
        int ceilLog2 = size <= 2 ? 1 : Integer.SIZE - Integer.numberOfLeadingZeros(size - 1);
        int power = Math.max(4, ceilLog2 / LEVELS);
        int step = 1 << power;
        float[] level = new float[LEVELS];
        int i = 0;
        while (i + step <= size) {
            for (int j = 0; j < step; j++, i++) {
                level[0] += x[from + i * stride];
            }
            for (int j = 1; j < LEVELS; j++) {
                level[j] += level[j - 1];
                level[j - 1] = 0f;
                if ((i & (long) (step - 1) << j * power) != 0) {
                    break;
                }
            }
        }
        for (; i < size; i++) {
            level[0] += x[from + i * stride];
        }
        return level[0] + level[1] + level[2] + level[3];
    }
}
