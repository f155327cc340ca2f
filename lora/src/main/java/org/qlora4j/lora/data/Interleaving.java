package org.qlora4j.lora.data;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;

/**
 * Mixes data sets: each next row is the next one of a set drawn by its probability, as {@code interleave_datasets} of
 * Hugging Face does it. A set that has run out begins again.
 *
 * @param probabilities one per data set; they must add up to 1
 * @param stopping when to stop
 */
public record Interleaving(List<Double> probabilities, Stopping stopping) {
    /** When enough rows were drawn. */
    public enum Stopping {
        /** As soon as one set has run out: no row comes twice. */
        FIRST_EXHAUSTED,
        /** As soon as every set has run out: every row comes at least once. */
        ALL_EXHAUSTED;

        /** The strategy of a name. @throws IllegalArgumentException if there is none */
        public static Stopping of(String name) {
            for (Stopping stopping : values()) {
                if (stopping.name().toLowerCase(Locale.ROOT).equals(name)) {
                    return stopping;
                }
            }
            throw new IllegalArgumentException(
                    "stopping_strategy '" + name + "' is not supported; supported: first_exhausted, all_exhausted");
        }
    }

    /** Checks and copies the probabilities. */
    public Interleaving {
        probabilities = List.copyOf(probabilities);
        double sum = 0;
        for (double p : probabilities) {
            if (!(p > 0 && p <= 1)) {
                throw new IllegalArgumentException("interleave_prob must be in (0, 1], found " + p);
            }
            sum += p;
        }
        if (Math.abs(sum - 1) > 1e-6) {
            throw new IllegalArgumentException("interleave_prob must add up to 1, found " + sum);
        }
    }

    /** The mixed rows. @throws IllegalArgumentException if there are not as many sets as probabilities */
    public <T> List<T> mix(List<List<T>> sets, long seed) {
        if (sets.size() != probabilities.size()) {
            throw new IllegalArgumentException(
                    "interleave_prob needs one number per dataset, " + sets.size() + ", found " + probabilities.size());
        }
        SplittableRandom random = new SplittableRandom(seed);
        int[] next = new int[sets.size()];
        boolean[] out = new boolean[sets.size()];
        int running = sets.size();
        List<T> rows = new ArrayList<>();
        while (running > 0 && (running == sets.size() || stopping == Stopping.ALL_EXHAUSTED)) {
            int set = draw(random.nextDouble());
            rows.add(sets.get(set).get(next[set]++));
            if (next[set] == sets.get(set).size()) {
                next[set] = 0;
                running -= out[set] ? 0 : 1;
                out[set] = true;
            }
        }
        return rows;
    }

    private int draw(double u) {
        double upTo = 0;
        for (int i = 0; i < probabilities.size() - 1; i++) {
            upTo += probabilities.get(i);
            if (u < upTo) {
                return i;
            }
        }
        return probabilities.size() - 1;
    }
}
