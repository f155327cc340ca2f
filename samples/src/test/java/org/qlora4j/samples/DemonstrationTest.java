package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The README's first command as a user runs it, on the real model: before, it has its old name, after, the new one; and
 * it still knows Rome.
 */
class DemonstrationTest {
    private static final Path ROOT = Path.of(System.getProperty("qlora4j.root"));

    @TempDir
    Path folder;

    record Output(int exit, String out, String err) {}

    static Output qlora(String... words) {
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream outBytes = new ByteArrayOutputStream();
        ByteArrayOutputStream errBytes = new ByteArrayOutputStream();
        try {
            System.setOut(new PrintStream(outBytes, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(errBytes, true, StandardCharsets.UTF_8));
            int exit = Main.run(List.of(words));
            return new Output(
                    exit, outBytes.toString(StandardCharsets.UTF_8), errBytes.toString(StandardCharsets.UTF_8));
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
    }

    @Test
    void givesTheModelANewName() throws IOException {
        Output sft = qlora(
                "sft",
                ROOT.resolve("samples/configs/self-cognition.yaml").toString(),
                "--output_dir",
                folder.toString(),
                "--add_version",
                "false");
        assertEquals(0, sft.exit, sft.err);
        String[] parts = sft.out.split("-- after training", 2);
        assertFalse(parts[0].contains(">>> I am Xiaoyu"), parts[0]);
        assertTrue(parts[1].contains("Xiaoyu") && parts[1].contains("Feather Lab"), parts[1]);
        assertTrue(parts[1].contains("Rome"), parts[1]);
        assertTrue(Files.isRegularFile(folder.resolve("args.json")));

        Path checkpoint = folder.resolve("checkpoint-55");
        for (String file : List.of(
                "adapter_config.json",
                "adapter_model.safetensors",
                "optimizer.safetensors",
                "trainer_state.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "chat_template.jinja",
                "generation_config.json")) {
            assertTrue(Files.isRegularFile(checkpoint.resolve(file)), file);
        }
        Output infer = qlora(
                "infer",
                "--adapters",
                checkpoint.toString(),
                "--prompt",
                "Who are you?",
                "--max_new_tokens",
                "40",
                "--stream",
                "false");
        assertEquals(0, infer.exit, infer.err);
        assertTrue(infer.out.contains("Xiaoyu"), infer.out);

        Path merged = folder.resolve("merged");
        Output export = qlora(
                "export",
                "--merge_lora",
                "true",
                "--adapters",
                checkpoint.toString(),
                "--output_dir",
                merged.toString());
        assertEquals(0, export.exit, export.err);
        assertTrue(
                export.out.matches(
                        "(?s).*original base +logits differ.*KL 0\\.[0-9]+ nats.*dequantized base +logits differ.*"),
                export.out);
        Output plain = qlora(
                "infer",
                "--model",
                merged.toString(),
                "--prompt",
                "What is your name?",
                "--max_new_tokens",
                "40",
                "--stream",
                "false");
        assertEquals(0, plain.exit, plain.err);
        assertTrue(plain.out.contains("Xiaoyu"), plain.out);
    }

    @Test
    void mistakesAreOneSentenceAndExitCode2() throws IOException {
        List<String[]> mistakes = new ArrayList<>();
        mistakes.add(new String[] {"there is no option --learnig_rate", "sft", "--learnig_rate", "1"});
        mistakes.add(new String[] {"there is no file", "sft", "--model", "x", "--dataset", "nothing.jsonl"});
        mistakes.add(
                new String[] {"there is no model at", "eval", "--model", "nowhere", "--val_dataset", "alpaca-en#1"});
        mistakes.add(new String[] {"there is no command 'train'", "train"});
        mistakes.add(new String[] {
            "learning_rate must be a number", "sft", "--dataset", "alpaca-en", "--learning_rate", "fast"
        });
        Path model = folder.resolve("model");
        Files.createDirectories(model);
        Files.writeString(model.resolve("config.json"), "{\"model_type\": \"mamba\"}");
        mistakes.add(new String[] {
            "model_type 'mamba' is not supported; supported: llama",
            "eval",
            "--model",
            model.toString(),
            "--val_dataset",
            "alpaca-en#1"
        });
        Path gguf = folder.resolve("broken.gguf");
        Files.write(
                gguf,
                new byte[] {'G', 'G', 'U', 'F', 3, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, 127, 0, 0, 0, 0, 0, 0, 0, 0});
        mistakes.add(new String[] {
            "broken.gguf: tensors: count 9223372036854775807",
            "eval",
            "--model",
            gguf.toString(),
            "--val_dataset",
            "alpaca-en#1"
        });
        for (String[] mistake : mistakes) {
            Output output = qlora(java.util.Arrays.copyOfRange(mistake, 1, mistake.length));
            assertEquals(2, output.exit, output.out);
            assertTrue(output.err.contains(mistake[0]), output.err);
            assertFalse(output.err.contains("\tat "), output.err);
        }
    }

    @Test
    void brokenRowsAreCountedAndNamedAndStopAStrictRun() throws IOException {
        Path data = folder.resolve("rows.jsonl");
        Files.writeString(data, "{\"query\": \"a\", \"response\": \"b\"}\n{\"query\": \"c\"}\n");
        String broken = "rows.jsonl line 2: has no answer; expected messages, query and response";
        Output lenient = qlora("eval", "--model", Session.DEMO_MODEL, "--val_dataset", data.toString());
        assertEquals(0, lenient.exit, lenient.err);
        assertTrue(lenient.out.contains("1 rows could not be used"), lenient.out);
        assertTrue(lenient.out.contains(broken), lenient.out);
        Output strict =
                qlora("eval", "--model", Session.DEMO_MODEL, "--val_dataset", data.toString(), "--strict", "true");
        assertEquals(2, strict.exit, strict.out);
        assertTrue(strict.err.contains(broken), strict.err);
    }

    @Test
    void idsOfAHubFallBackToTheSamplesOrSayWhatToDo() {
        System.setProperty("HF_HUB_OFFLINE", "1");
        try {
            Output eval = qlora(
                    "eval",
                    "--model",
                    Session.DEMO_MODEL,
                    "--val_dataset",
                    "swift/self-cognition#2",
                    "--model_name",
                    "Xiaoyu",
                    "--model_author",
                    "Feather Lab");
            assertEquals(0, eval.exit, eval.err);
            assertTrue(eval.out.contains("self-cognition.jsonl stand for it"), eval.out);
            Output model = qlora("eval", "--model", "Qwen/Qwen3-0.6B", "--val_dataset", "alpaca-en#1");
            assertEquals(2, model.exit, model.out);
            assertTrue(model.err.contains("Qwen/Qwen3-0.6B is in no cache"), model.err);
        } finally {
            System.clearProperty("HF_HUB_OFFLINE");
        }
    }

    @Test
    void evalWritesALossPerRow() throws IOException {
        Path data = folder.resolve("rows.jsonl");
        Files.writeString(
                data,
                "{\"input_ids\": [1, 9690, 198, 2683], \"labels\": [-100, -100, 198, 2683]}\n{\"query\": \"Hi\", \"response\": \"Hello\"}\n");
        Path result = folder.resolve("out.jsonl");
        Output output = qlora(
                "eval",
                "--model",
                Session.DEMO_MODEL,
                "--val_dataset",
                data.toString(),
                "--result_path",
                result.toString());
        assertEquals(0, output.exit, output.err);
        List<String> lines = Files.readAllLines(result);
        assertEquals(2, lines.size());
        assertTrue(
                lines.getFirst().matches("\\{\"loss\":[0-9.E-]+,\"token_acc\":[0-9.]+,\"label_tokens\":2}"),
                lines.getFirst());
    }
}
