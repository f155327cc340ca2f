package org.qlora4j.lora.data;

import java.util.SplittableRandom;

/** Random orders that depend on the seed only. */
public final class Permutation {
    private Permutation() {}

    /** A random order of 0 … n-1 (Fisher and Yates). */
    public static int[] of(int n, SplittableRandom random) {
        int[] order = new int[n];
        for (int i = 0; i < n; i++) {
            int j = random.nextInt(i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        return order;
    }
}
