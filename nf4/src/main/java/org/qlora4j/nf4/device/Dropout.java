package org.qlora4j.nf4.device;

/** The counter-based random numbers of dropout, the same on every device. */
public final class Dropout {
    private Dropout() {}

    /** SplitMix64's finalizer (Steele, Lea, Flood 2014) of {@code seed + golden·(index+1)}. */
    public static long mix(long seed, long index) {
        long z = seed + (index + 1) * 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    /** The smallest 24-bit number that is kept, for a drop probability p in [0, 1). */
    public static int threshold(double p) {
        return (int) Math.round(p * (1 << 24));
    }

    /** Whether the element is kept: the top 24 bits of {@link #mix} are not below the threshold. */
    public static boolean keeps(long seed, long index, int threshold) {
        return (int) (mix(seed, index) >>> 40) >= threshold;
    }
}
