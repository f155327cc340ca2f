package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.samples.DemonstrationTest.qlora;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.samples.DemonstrationTest.Output;

/** Batch inference, generation options, and evaluation with answers, on the demonstration model. */
class InferTest {
    @TempDir
    Path folder;

    private static List<JsonNode> lines(Path file) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(file)) {
            lines.add(new ObjectMapper().readTree(line));
        }
        return lines;
    }

    private Path rows() throws IOException {
        Path data = folder.resolve("rows.jsonl");
        Files.writeString(data, """
                {"query": "What is the capital of France?", "response": "The capital of France is Paris."}
                {"query": "Say hello.", "response": "Hello!", "history": [["Who are you?", "I am a model."]]}
                """);
        return data;
    }

    @Test
    void aDataSetIsAnsweredLineByLine() throws IOException {
        Path result = folder.resolve("new/folder/answers.jsonl");
        Output output = qlora(
                "infer",
                "--model",
                Session.DEMO_MODEL,
                "--val_dataset",
                rows().toString(),
                "--result_path",
                result.toString(),
                "--max_new_tokens",
                "12",
                "--stop_words",
                "Paris");
        assertEquals(0, output.exit(), output.err());
        List<JsonNode> lines = lines(result);
        assertEquals(2, lines.size());
        JsonNode first = lines.getFirst();
        assertTrue(first.path("prompt").asText().contains("capital of France?"), first.toString());
        assertTrue(first.path("prompt").asText().endsWith("<|im_start|>assistant\n"), first.toString());
        assertTrue(first.path("labels").asText().startsWith("The capital of France is Paris."), first.toString());
        assertEquals("The capital of France is ", first.path("response").asText(), "the stop word is no part of it");
        assertTrue(lines.get(1).path("prompt").asText().contains("I am a model."), "earlier turns are in the prompt");
        assertTrue(
                lines.get(1).path("labels").asText().startsWith("Hello!"),
                lines.get(1).toString());
    }

    @Test
    void evalComparesAnswersOnRequest() throws IOException {
        Path result = folder.resolve("eval.jsonl");
        Output output = qlora(
                "eval",
                "--model",
                Session.DEMO_MODEL,
                "--val_dataset",
                rows().toString(),
                "--result_path",
                result.toString(),
                "--predict_with_generate",
                "true",
                "--max_new_tokens",
                "12");
        assertEquals(0, output.exit(), output.err());
        assertTrue(
                output.out()
                        .matches(
                                "(?s).*eval_loss [0-9.]+, perplexity [0-9.]+, token accuracy 0\\.[0-9]+, over \\d+ label"
                                        + " tokens.*rouge-l 0\\.[0-9]+, bleu-4 0\\.[0-9]+, exact match [0-9.]+, means over 2 answers.*"),
                output.out());
        JsonNode first = lines(result).getFirst();
        assertEquals(1, first.path("rouge-l").doubleValue(), "it knows Paris: " + first);
        assertTrue(
                first.path("loss").doubleValue() > 0 && first.path("token_acc").doubleValue() > 0.5, first.toString());
    }

    @Test
    void theRowsOfARunAreFoundAgain() throws IOException {
        Path run = folder.resolve("run");
        Output sft = qlora(
                "sft",
                "--model",
                Session.DEMO_MODEL,
                "--dataset",
                "alpaca-en#6",
                "--split_dataset_ratio",
                "0.34",
                "--max_steps",
                "1",
                "--gradient_accumulation_steps",
                "1",
                "--max_length",
                "200",
                "--system",
                "Answer briefly.",
                "--output_dir",
                run.toString(),
                "--add_version",
                "false",
                "--ask",
                "Who are you?");
        assertEquals(0, sft.exit(), sft.err());
        for (String file : List.of("args.json", "logging.jsonl", "report.html", "images/train_loss.png")) {
            assertTrue(Files.isRegularFile(run.resolve(file)), file);
        }
        assertTrue(Files.readString(run.resolve("report.html")).contains("Who are you?"));
        assertTrue(sft.out().contains("memory this run will need:"), sft.out());
        var compared = java.util.regex.Pattern.compile(
                        "device memory: estimated [0-9.]+ MB, measured peak [0-9.]+ MB \\(([-+0-9.]+) %\\)")
                .matcher(sft.out());
        assertTrue(compared.find(), sft.out());
        assertEquals(0, Double.parseDouble(compared.group(1)), 10, "R-17: estimate against measured peak");

        Path result = folder.resolve("answers.jsonl");
        Output infer = qlora(
                "infer",
                "--adapters",
                run.resolve("checkpoint-1").toString(),
                "--load_data_args",
                "true",
                "--result_path",
                result.toString(),
                "--max_new_tokens",
                "2");
        assertEquals(0, infer.exit(), infer.err());
        assertEquals(2, lines(result).size());
        assertTrue(lines(result).getFirst().path("prompt").asText().contains("Answer briefly."), "the run's system");
    }

    @Test
    void whatIsMissingIsNamed() {
        Output output = qlora("infer", "--model", Session.DEMO_MODEL, "--load_data_args", "true");
        assertEquals(2, output.exit());
        assertTrue(output.err().contains("--load_data_args needs --adapters"), output.err());
        Output adapter = qlora(
                "eval", "--model", Session.DEMO_MODEL, "--adapters", folder.toString(), "--load_data_args", "true");
        assertEquals(2, adapter.exit());
        assertTrue(adapter.err().contains("there is no args.json beside or above"), adapter.err());
        assertFalse(adapter.err().contains("\tat "), adapter.err());
    }
}
