package org.qlora4j.nf4.weight;

import java.util.Arrays;

/**
 * The 256 values of bitsandbytes' 8-bit dynamic data types, ascending: a sign, a unary exponent (powers of ten) and a
 * linear fraction. The signed map codes absmax values in double quantization and the first moments of 8-bit optimizers,
 * the unsigned one second moments.
 *
 * @see <a href="https://arxiv.org/abs/2110.02861">Dettmers et al. 2021, section 2</a>
 */
public final class DynamicMap {
    /** Number of values. */
    public static final int SIZE = 256;

    private static final int EXPONENTS = 7;
    private static final float[] SIGNED = create(true);
    private static final float[] UNSIGNED = create(false);

    private DynamicMap() {}

    /** A copy of the signed map, from -0.99297 to 1. */
    public static float[] signed() {
        return SIGNED.clone();
    }

    /** A copy of the unsigned map, from 0 to 1. */
    public static float[] unsigned() {
        return UNSIGNED.clone();
    }

    /** As {@code create_dynamic_map(signed, max_exponent_bits=7, total_bits=8)}: same roundings in the same places. */
    private static float[] create(boolean signed) {
        float[] map = new float[SIZE];
        int n = 0;
        for (int i = 0; i < EXPONENTS; i++) {
            int fractions = 1 << (signed ? i : i + 1);
            float scale = (float) Math.pow(10, i - (EXPONENTS - 1));
            for (int j = 0; j < fractions; j++) {
                float mean = (boundary(j, fractions) + boundary(j + 1, fractions)) / 2f;
                float value = scale * mean;
                map[n++] = value;
                if (signed) {
                    map[n++] = -value;
                }
            }
        }
        map[n++] = 0f;
        map[n++] = 1f;
        if (n != SIZE) {
            throw new AssertionError("a dynamic map has 256 values, made " + n);
        }
        Arrays.sort(map);
        return map;
    }

    /** Element {@code j} of {@code torch.linspace(0.1, 1, fractions + 1)}: from the nearer end, in fp32. */
    private static float boundary(int j, int fractions) {
        float step = (1f - 0.1f) / fractions;
        return j < (fractions + 1) / 2 ? Math.fma(step, j, 0.1f) : Math.fma(-step, fractions - j, 1f);
    }
}
