package org.qlora4j.lora.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.BitSet;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SamplingTest {
    // likeliest first: 4, 1, 0, 3, 2
    private static final float[] LOGITS = {-0.5f, 0.25f, -7f, -1.5f, 1f};

    private static Set<Integer> chosen(Sampling sampling) {
        SplittableRandom random = new SplittableRandom(1);
        Set<Integer> tokens = new TreeSet<>();
        for (int i = 0; i < 2000; i++) {
            tokens.add(sampling.choose(LOGITS, new BitSet(), random));
        }
        return tokens;
    }

    @Test
    void temperature0TakesTheLikeliest() {
        assertEquals(Set.of(4), chosen(Sampling.GREEDY));
    }

    @Test
    void topKKeepsTheLikeliestOfBothSigns() {
        assertEquals(Set.of(4), chosen(new Sampling(3, 1, 1, 1, 0)));
        assertEquals(Set.of(4, 1), chosen(new Sampling(3, 2, 1, 1, 0)));
        assertEquals(Set.of(4, 1, 0), chosen(new Sampling(3, 3, 1, 1, 0)));
        assertEquals(Set.of(4, 1, 0, 3, 2), chosen(new Sampling(3, 0, 1, 1, 0)));
    }

    /** At temperature 1 the probabilities are 0.552, 0.261, 0.123, 0.045, 0.0002 … of the five tokens. */
    @ParameterizedTest
    @CsvSource({"1e-9, 1", "0.5, 1", "0.6, 2", "0.8, 2", "0.9, 3"})
    void topPKeepsTheFewestThatReachIt(double topP, int count) {
        assertEquals(count, chosen(new Sampling(1, 0, topP, 1, 0)).size());
    }

    @Test
    void theShareOfATokenIsItsProbability() {
        SplittableRandom random = new SplittableRandom(2);
        Sampling sampling = new Sampling(1, 2, 1, 1, 0);
        int first = 0;
        for (int i = 0; i < 100_000; i++) {
            first += sampling.choose(LOGITS, new BitSet(), random) == 4 ? 1 : 0;
        }
        assertEquals(1 / (1 + Math.exp(0.25 - 1)), first / 100_000.0, 0.005);
    }
}
