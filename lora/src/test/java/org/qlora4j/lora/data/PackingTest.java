package org.qlora4j.lora.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.qlora4j.lora.model.Batch;

class PackingTest {
    private static List<Batch.Row> rows(int... lengths) {
        return IntStream.of(lengths)
                .mapToObj(length -> new Batch.Row(new int[length], new int[length]))
                .toList();
    }

    private static List<List<Integer>> lengths(List<List<Batch.Row>> packs) {
        return packs.stream()
                .map(pack -> pack.stream().map(row -> row.ids().length).toList())
                .toList();
    }

    @Test
    void rowsGoWhereTheLeastRoomIsLeft() {
        assertEquals(
                List.of(List.of(3, 7), List.of(6, 4), List.of(5, 5), List.of(12)),
                lengths(Packing.bestFit(rows(3, 6, 5, 7, 4, 5, 12), 10)));
        assertEquals(List.of(List.of(1)), lengths(Packing.bestFit(rows(1), 10)));
    }

    @Test
    void everyRowIsPackedOnceAndPacksAreFull() {
        SplittableRandom random = new SplittableRandom(3);
        List<Batch.Row> rows = rows(random.ints(1000, 10, 400).toArray());
        List<List<Batch.Row>> packs = Packing.bestFit(rows, 2048);
        List<Batch.Row> packed =
                new ArrayList<>(packs.stream().flatMap(List::stream).toList());
        assertEquals(1000, packed.size());
        assertTrue(packed.containsAll(rows));
        int tokens = rows.stream().mapToInt(r -> r.ids().length).sum();
        assertTrue(packs.stream()
                .allMatch(p -> p.stream().mapToInt(r -> r.ids().length).sum() <= 2048));
        assertTrue(packs.size() <= (tokens + 2047) / 2048 + 1, "no more packs than tokens need");
        assertEquals(lengths(packs), lengths(Packing.bestFit(rows, 2048)));
    }

    @Test
    void groupedRowsOfAStepHaveAboutOneLength() {
        int[] lengths = new SplittableRandom(5).ints(1000, 1, 1000).toArray();
        int[] order = LengthGrouping.order(lengths, 8, new SplittableRandom(1));
        assertArrayEquals(
                IntStream.range(0, 1000).toArray(), IntStream.of(order).sorted().toArray());
        assertEquals(Arrays.stream(lengths).max().getAsInt(), lengths[order[0]]);
        assertFalse(Arrays.equals(order, LengthGrouping.order(lengths, 8, new SplittableRandom(2))));
        double spread = 0;
        for (int i = 8; i + 8 <= 1000; i += 8) {
            int[] step = Arrays.stream(order, i, i + 8).map(r -> lengths[r]).toArray();
            spread += IntStream.of(step).max().getAsInt()
                    - IntStream.of(step).min().getAsInt();
        }
        assertTrue(spread / 124 < 100, "a random order has a spread of about 780, this one has " + spread / 124);
        assertArrayEquals(new int[] {}, LengthGrouping.order(new int[0], 8, new SplittableRandom(1)));
        assertEquals(3, LengthGrouping.order(new int[] {1, 2, 3}, 8, new SplittableRandom(1)).length);
    }

    @Test
    void statisticsOfLengths() {
        LengthStatistics s = LengthStatistics.of(rows(2, 4, 4, 4, 5, 5, 7, 9));
        assertEquals(5, s.mean());
        assertEquals(2, s.std());
        assertEquals(4, s.percentile(50));
        assertEquals(9, s.percentile(95));
        assertEquals(
                "Dataset Token Length: 5.0±2.0, min=2, max=9, size=8; 50 %: 4, 90 %: 9, 95 %: 9, 99 %: 9",
                s.toString());
    }
}
