package org.qlora4j.lora.data;

import java.util.Arrays;
import java.util.Comparator;
import java.util.SplittableRandom;

/** A random order in which neighbours have about the same length, as {@code group_by_length} of transformers. */
public final class LengthGrouping {
    private static final int BATCHES_SORTED_TOGETHER = 50;

    private LengthGrouping() {}

    /**
     * Shuffles, then sorts within groups of up to 50 batches, longest first. The longest of all comes first, so that
     * memory runs out at once or not at all.
     *
     * @param lengths of the samples
     * @param batch samples of an optimizer step
     */
    public static int[] order(int[] lengths, int batch, SplittableRandom random) {
        int n = lengths.length;
        int[] shuffled = Permutation.of(n, random);
        int batches = Math.max(1, Math.min(n / (batch * 4), BATCHES_SORTED_TOGETHER));
        int group = Math.multiplyExact(batches, batch);
        int[] order = new int[n];
        for (int from = 0; from < n; from += group) {
            int[] sorted = Arrays.stream(shuffled, from, Math.min(n, from + group))
                    .boxed()
                    .sorted(Comparator.comparingInt(i -> -lengths[i]))
                    .mapToInt(Integer::intValue)
                    .toArray();
            System.arraycopy(sorted, 0, order, from, sorted.length);
        }
        int longest = 0;
        for (int i = 0; i < n; i += group) {
            longest = lengths[order[i]] > lengths[order[longest]] ? i : longest;
        }
        if (n > 0) {
            int first = order[0];
            order[0] = order[longest];
            order[longest] = first;
        }
        return order;
    }
}
