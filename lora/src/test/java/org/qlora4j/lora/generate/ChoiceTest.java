package org.qlora4j.lora.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.BitSet;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.qlora4j.lora.model.Batch;

/** How tokens are chosen, where answers end, and what of a row is the question. */
class ChoiceTest {
    private static final int IGNORED = Batch.IGNORED;

    private static BitSet seen(int... ids) {
        BitSet seen = new BitSet();
        for (int id : ids) {
            seen.set(id);
        }
        return seen;
    }

    @Test
    void repetitionPenaltyDividesPositiveLogitsAndMultipliesNegativeOnes() {
        float[] logits = {4, -1, 3, -2};
        Sampling penalized = new Sampling(0, 0, 1, 2, 0);
        assertEquals(2, penalized.choose(logits, seen(0, 1), new SplittableRandom(0)));
        assertArrayEquals(new float[] {2, -2, 3, -2}, logits);
        assertEquals(0, Sampling.GREEDY.choose(new float[] {4, 3}, seen(0), new SplittableRandom(0)));
        assertThrows(IllegalArgumentException.class, () -> new Sampling(0, 0, 1, 0, 0));
    }

    @Test
    void topKAndTopPLimitTheChoice() {
        Set<Integer> topK = new HashSet<>();
        Set<Integer> topP = new HashSet<>();
        SplittableRandom random = new SplittableRandom(1);
        for (int i = 0; i < 200; i++) {
            topK.add(new Sampling(1, 2, 1, 1, 0).choose(new float[] {1, 1.1f, 0.9f, 0}, seen(), random));
            topP.add(new Sampling(1, 0, 0.6, 1, 0).choose(new float[] {0, 5, 4.9f, 0}, seen(), random));
        }
        assertEquals(Set.of(0, 1), topK);
        assertEquals(Set.of(1, 2), topP);
    }

    @Test
    void stopWordsAreFoundAcrossPiecesAndHeldBack() {
        StopWords stop = new StopWords(List.of("###", "\nUser:"));
        StringBuilder text = new StringBuilder("Hello #");
        assertEquals(-1, stop.find(text, 0));
        assertEquals(6, stop.certain(text), "the # may begin a stop word");
        text.append("1 is #\nUs");
        assertEquals(text.length() - 3, stop.certain(text));
        text.append("er: x ###");
        assertEquals(text.indexOf("\nUser:"), stop.find(text, 0), "the first one counts");
        assertThrows(IllegalArgumentException.class, () -> new StopWords(List.of("")));
        assertThrows(IllegalArgumentException.class, () -> new Ending(0, List.of()));
    }

    @Test
    void thePromptEndsWhereTheLastAnswerBegins() {
        Prompt p = Prompt.of(new Batch.Row(
                new int[] {1, 2, 3, 4, 5, 6, 7}, new int[] {IGNORED, 2, IGNORED, IGNORED, 5, 6, IGNORED}));
        assertArrayEquals(new int[] {1, 2, 3, 4}, p.ids());
        assertArrayEquals(new int[] {5, 6}, p.reference());
        Batch.Row unlabelled = new Batch.Row(new int[] {1, 2}, new int[] {IGNORED, IGNORED});
        Batch.Row answerOnly = new Batch.Row(new int[] {1, 2}, new int[] {1, 2});
        assertTrue(assertThrows(IllegalArgumentException.class, () -> Prompt.of(unlabelled))
                .getMessage()
                .contains("no label"));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> Prompt.of(answerOnly))
                .getMessage()
                .contains("begins with its answer"));
    }
}
