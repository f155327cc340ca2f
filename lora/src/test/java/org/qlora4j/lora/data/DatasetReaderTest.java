package org.qlora4j.lora.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.ChatText;

class DatasetReaderTest {
    @TempDir
    Path folder;

    private ChatText text;
    private Path data;

    @BeforeEach
    void writeTenRows() throws IOException {
        text = TinyModel.text(Files.createDirectory(folder.resolve("model")));
        data = Files.createDirectory(folder.resolve("data")).resolve("ten.jsonl");
        Files.writeString(
                data,
                IntStream.range(0, 10)
                        .mapToObj(i -> "{\"input_ids\": [%d, 1], \"labels\": [-100, 1]}".formatted(i))
                        .collect(Collectors.joining("\n")));
    }

    @AfterEach
    void close() {
        text.close();
    }

    private DatasetReader reader(BrokenRows broken) {
        return new DatasetReader(
                new DatasetFiles(folder, TinyModel.offline(folder), line -> {}),
                TinyModel.encoder(text, LossScale.DEFAULT),
                Map.of(),
                null,
                null,
                broken,
                null);
    }

    private DatasetReader.Rows read(String entry, boolean shuffle, double ratio) {
        return reader(new BrokenRows(true)).read(DatasetSpec.parse(entry), shuffle, 7, ratio);
    }

    private static List<Integer> first(List<Batch.Row> rows) {
        return rows.stream().map(r -> r.ids()[0]).toList();
    }

    @Test
    void fewerRowsAreTheFirstOrDrawnWithoutRepetition() {
        assertEquals(List.of(0, 1, 2, 3), first(read(data + "#4", false, 0).train()));
        List<Integer> drawn = first(read(data + "#4", true, 0).train());
        assertEquals(4, new HashSet<>(drawn).size());
        assertNotEquals(List.of(0, 1, 2, 3), drawn);
        assertEquals(drawn, first(read(data + "#4", true, 0).train()));
    }

    @Test
    void moreRowsRepeatAllAndSampleTheRest() {
        assertEquals(
                List.of(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2),
                first(read(data + "#13", false, 0).train()));
        Map<Integer, Integer> counts = new HashMap<>();
        first(read(data + "#23", true, 0).train()).forEach(i -> counts.merge(i, 1, Integer::sum));
        assertEquals(10, counts.size());
        assertEquals(3, counts.values().stream().filter(n -> n == 3).count());
        assertEquals(7, counts.values().stream().filter(n -> n == 2).count());
    }

    @Test
    void heldBackRowsAreNotLearnedEvenIfRowsRepeat() {
        DatasetReader.Rows rows = read(data + "#30", true, 0.1);
        assertEquals(3, rows.validation().size());
        assertEquals(27, rows.train().size());
        Set<Integer> learned = new HashSet<>(first(rows.train()));
        first(rows.validation()).forEach(i -> assertTrue(!learned.contains(i), "row " + i));
        assertEquals(7, learned.size());
    }

    @Test
    void brokenRowsAreCountedAndReplaced() throws IOException {
        Path mixed = folder.resolve("mixed.jsonl");
        Files.writeString(mixed, "nonsense\n" + Files.readString(data) + "\n" + "{\"query\": \"q\"}\n".repeat(9));
        BrokenRows broken = new BrokenRows(false);
        assertEquals(
                List.of(0, 1),
                first(reader(broken)
                        .read(DatasetSpec.parse(mixed + "#2"), false, 7, 0)
                        .train()));
        assertEquals(1, broken.count());
        assertTrue(
                broken.first().getFirst().contains("mixed.jsonl line 1: is not JSON"),
                broken.first().toString());
        assertEquals(
                10,
                reader(broken).read(DatasetSpec.of(mixed), false, 7, 0).train().size());
        assertEquals(11, broken.count());
        assertEquals(5, broken.first().size());
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class,
                () -> reader(new BrokenRows(true)).read(DatasetSpec.of(mixed), false, 7, 0));
        assertTrue(e.getMessage().contains("mixed.jsonl line 1"), e.getMessage());
    }

    /** A row behind the ones that are taken is not even looked at. */
    @Test
    void onlyRowsThatAreTakenAreTokenized() throws IOException {
        Path late = folder.resolve("late.jsonl");
        Files.writeString(late, Files.readString(data) + "\nnonsense");
        assertEquals(10, read(late + "#10", false, 0).train().size());
        assertThrows(IllegalArgumentException.class, () -> read(late + "#11", false, 0));
    }

    @Test
    void foldersAndEmptySets() throws IOException {
        assertEquals(
                10, read(String.valueOf(data.getParent()), false, 0).train().size());
        Path empty = Files.createFile(folder.resolve("empty.txt"));
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> read(empty.toString(), false, 0));
        assertTrue(e.getMessage().contains("holds no row"), e.getMessage());
        assertThrows(IllegalArgumentException.class, () -> read(folder.resolve("nothing") + "#3", false, 0));
    }

    @Test
    void idsOfTheJourneyFallBackToTheSamplesAndSaySo() throws IOException {
        Path sample = folder.resolve("alpaca-zh.jsonl");
        Files.copy(data, sample);
        List<String> said = new ArrayList<>();
        DatasetFiles files = new DatasetFiles(folder, TinyModel.offline(folder), said::add);
        assertEquals(List.of(sample), files.find(DatasetSpec.parse("alpaca-zh#500")));
        assertEquals(List.of(), said);
        DatasetSpec id = DatasetSpec.parse("AI-ModelScope/alpaca-gpt4-data-zh#500");
        assertEquals(List.of(sample), files.find(id));
        assertEquals(List.of(sample), files.find(id));
        assertEquals(1, said.size(), said.toString());
        assertTrue(said.getFirst().endsWith("Rows of " + sample + " stand for it"), said.toString());
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> files.find(DatasetSpec.parse("a/b")));
        assertTrue(e.getMessage().contains("a/b is in no cache"), e.getMessage());
    }

    @Test
    void interleavesByProbability() {
        List<List<Integer>> sets = List.of(
                IntStream.range(0, 100).boxed().toList(),
                IntStream.range(1000, 1010).boxed().toList());
        Interleaving first = new Interleaving(List.of(0.5, 0.5), Interleaving.Stopping.FIRST_EXHAUSTED);
        List<Integer> mixed = first.mix(sets, 1);
        assertEquals(mixed.size(), new HashSet<>(mixed).size());
        assertEquals(10, mixed.stream().filter(i -> i >= 1000).count());
        assertEquals(1009, mixed.getLast());
        assertEquals(mixed, first.mix(sets, 1));
        List<Integer> all = new Interleaving(List.of(0.9, 0.1), Interleaving.Stopping.ALL_EXHAUSTED).mix(sets, 1);
        assertEquals(110, new HashSet<>(all).size());
        double share = all.stream().filter(i -> i >= 1000).count() / (double) all.size();
        assertEquals(0.1, share, 0.05);
        assertThrows(
                IllegalArgumentException.class,
                () -> new Interleaving(List.of(0.5, 0.4), Interleaving.Stopping.ALL_EXHAUSTED));
        assertThrows(IllegalArgumentException.class, () -> first.mix(sets.subList(0, 1), 1));
    }

    @Test
    void longRowsAreDeletedCutOrSplit() {
        int[] ids = IntStream.range(0, 10).toArray();
        int[] labels = ids.clone();
        labels[8] = Batch.IGNORED;
        Batch.Row row = new Batch.Row(ids, labels);
        assertEquals(List.of(0), first(Truncation.DELETE.apply(row, 10)));
        assertEquals(List.of(), Truncation.DELETE.apply(row, 9));
        assertEquals(List.of(6), first(Truncation.LEFT.apply(row, 4)));
        assertEquals(List.of(0), first(Truncation.RIGHT.apply(row, 4)));
        assertEquals(4, Truncation.RIGHT.apply(row, 4).getFirst().ids().length);
        assertEquals(List.of(0, 4, 8), first(Truncation.SPLIT.apply(row, 4)));
        // its only label that counts is left out: the first of a part has nothing before it
        labels[9] = Batch.IGNORED;
        assertEquals(List.of(0, 4), first(Truncation.SPLIT.apply(row, 4)));
    }
}
