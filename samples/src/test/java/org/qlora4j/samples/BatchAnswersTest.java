package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code --max_batch_size}: several rows at a time are answered as one by one, in the order of the rows. */
class BatchAnswersTest {
    @TempDir
    Path folder;

    private Path model;
    private Path rows;
    private int runs;

    @BeforeEach
    void prepare() throws IOException {
        model = TinyModel.write(folder.resolve("model"));
        rows = TinyModel.rows(folder.resolve("rows.jsonl"));
    }

    private List<String> answers(String command, String batchSize, String... more) throws IOException {
        Path result = folder.resolve(++runs + ".jsonl");
        List<String> words = new ArrayList<>(List.of(command, "--model", model.toString()));
        words.addAll(List.of("--val_dataset", rows.toString(), "--result_path", result.toString()));
        words.addAll(List.of("--max_new_tokens", "20", "--max_batch_size", batchSize));
        words.addAll(List.of(more));
        Cli.Output output = Cli.qlora(words.toArray(String[]::new));
        assertEquals(0, output.exit(), output.err());
        assertTrue(
                output.out().matches("(?s).*\n8 answers, \\d+ tokens in [0-9.]+ s, [0-9.]+ tokens/s.*"), output.out());
        return Files.readAllLines(result);
    }

    @ParameterizedTest
    @ValueSource(strings = {"reference", "cpu"})
    void severalRowsAtATimeAreAnsweredAsOneByOne(String device) throws IOException {
        // texts of one letter end some answers early, others in the middle of the batch
        String[] greedy = {"--device", device, "--stop_words", "e", "a"};
        String[] sampled = {"--device", device, "--temperature", "1", "--top_p", "0.95", "--stop_words", "e", "t", "1"};
        for (String[] how : List.of(greedy, sampled)) {
            List<String> alone = answers("infer", "1", how);
            assertEquals(8, alone.size());
            Set<Integer> lengths = alone.stream().map(String::length).collect(Collectors.toSet());
            assertTrue(lengths.size() > 2, alone.toString());
            assertEquals(alone, answers("infer", "3", how));
            assertEquals(alone, answers("infer", "50", how));
        }
    }

    @Test
    void evalComparesTheSameAnswers() throws IOException {
        String[] more = {"--device", "reference", "--predict_with_generate", "true"};
        List<String> alone = answers("eval", "1", more);
        assertTrue(alone.getFirst().contains("\"exact_match\""), alone.getFirst());
        assertEquals(alone, answers("eval", "4", more));
    }

    @Test
    void moreCachesThanThereIsMemoryForAreRefused() {
        Path result = folder.resolve("answers.jsonl");
        Cli.Output output = Cli.qlora(
                "infer",
                "--model",
                model.toString(),
                "--val_dataset",
                rows.toString(),
                "--result_path",
                result.toString(),
                "--max_batch_size",
                "6",
                "--max_memory",
                "1MB");
        assertEquals(2, output.exit(), output.out());
        assertTrue(
                output.err()
                        .matches(
                                "qlora: keys and values of 6 answers at a time need up to \\d+ MB, there are 0 MB left of"
                                        + " --max_memory 1MB; what would help: a smaller --max_new_tokens than 512\\R"),
                output.err());
        assertFalse(Files.exists(result), "nothing was written");
    }

    @Test
    void theBenchmarkCountsAllSequences() {
        Cli.Output output = Cli.qlora(
                "bench",
                "--model",
                model.toString(),
                "--workload",
                "generate",
                "--max_batch_size",
                "3",
                "--steps",
                "1",
                "--max_new_tokens",
                "4");
        assertEquals(0, output.exit(), output.err());
        assertTrue(output.out().contains("\"max_batch_size\":3,\"first_token_s\":"), output.out());
    }
}
