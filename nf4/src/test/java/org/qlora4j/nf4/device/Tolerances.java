package org.qlora4j.nf4.device;

import org.qlora4j.nf4.tensor.DType;

/** How far a device may be from the reference: relative root mean square error, by type and length of the sums. */
final class Tolerances {
    private Tolerances() {}

    /** Several roundings per result, and approximations of exp with an error of about one unit. */
    private static final double UNITS = 4;

    /** Largest single error, in units of the tolerance and the largest value. */
    static final double WORST = 8;

    /** Half the distance from 1 to the next number. */
    static double unit(DType type) {
        return switch (type) {
            case F64 -> 0x1p-53;
            case F32 -> 0x1p-24;
            case F16 -> 0x1p-11;
            case BF16 -> 0x1p-8;
            case I64, I32, I16, I8, U8, BOOL -> throw new IllegalArgumentException("no tolerance for " + type);
        };
    }

    /** For results that are sums of {@code k} products: rounding errors add up like a random walk. */
    static double sum(DType type, int k) {
        return UNITS * unit(type) * Math.sqrt(Math.max(1, k));
    }

    /** For elementwise results. */
    static double element(DType type) {
        return sum(type, 1);
    }

    /**
     * For {@code g·(1 − sigmoid(g))} with g up to {@code maxGate}: 1 − sigmoid cancels, until it is 0 in fp32 at about
     * 16.
     */
    static double gate(DType type, double maxGate) {
        return element(type) * (1 + Math.min(maxGate, 16) / 4);
    }

    /**
     * For softmax of scores up to {@code maxScore} that are sums of {@code k} products: an absolute error of a score is
     * a relative error of its exponential.
     */
    static double softmax(DType type, int k, double maxScore) {
        return sum(type, k) * (1 + maxScore);
    }
}
