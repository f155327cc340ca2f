package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;

/** What a user of ms-swift expects of the commands, on a tiny model. */
class CliContractTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path folder;

    private Path model;
    private Path rows;

    @BeforeEach
    void prepare() throws IOException {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        model = TinyModel.write(folder.resolve("model"));
        rows = TinyModel.rows(folder.resolve("rows.jsonl"));
    }

    private Cli.Output sft(String output, String... more) {
        List<String> words = new ArrayList<>(List.of("sft", "--model", model.toString()));
        words.addAll(List.of(
                "--dataset",
                rows.toString(),
                "--output_dir",
                folder.resolve(output).toString()));
        words.addAll(List.of("--add_version", "false", "--max_steps", "2", "--gradient_accumulation_steps", "2"));
        words.addAll(List.of("--logging_steps", "1"));
        words.addAll(Arrays.asList(more));
        Cli.Output result = Cli.qlora(words.toArray(String[]::new));
        assertEquals(0, result.exit(), result.err());
        return result;
    }

    private List<JsonNode> lines(Path file) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(file)) {
            lines.add(JSON.readTree(line));
        }
        return lines;
    }

    private List<JsonNode> steps(String output) throws IOException {
        return lines(folder.resolve(output).resolve("logging.jsonl")).stream()
                .filter(line -> line.has("grad_norm"))
                .toList();
    }

    /** Rows of tokens need no tokenizer: training, evaluation and merging work without tokenizer.json. */
    @Test
    void rowsOfTokensNeedNoTokenizer() throws IOException {
        Files.delete(model.resolve("tokenizer.json"));
        Files.writeString(
                rows,
                "{\"input_ids\": [5, 6, 7, 8], \"labels\": [-100, 6, 7, 8]}\n"
                        + "{\"input_ids\": [9, 8, 7], \"labels\": [-100, -100, 7]}\n");
        sft("tokens");
        String checkpoint = folder.resolve("tokens/checkpoint-2").toString();
        Path result = folder.resolve("losses.jsonl");
        Cli.Output eval = Cli.qlora(
                "eval", "--adapters", checkpoint, "--val_dataset", rows.toString(), "--result_path", result.toString());
        assertEquals(0, eval.exit(), eval.err());
        assertEquals(
                List.of(3, 1),
                lines(result).stream()
                        .map(line -> line.path("label_tokens").intValue())
                        .toList());
        Path merged = folder.resolve("merged");
        Cli.Output export = Cli.qlora(
                "export", "--adapters", checkpoint, "--merge_lora", "true", "--output_dir", merged.toString());
        assertEquals(0, export.exit(), export.err());
        assertTrue(export.out().contains("merge report"), export.out());
        Cli.Output infer = Cli.qlora("infer", "--model", merged.toString(), "--prompt", "a");
        assertEquals(2, infer.exit());
        assertTrue(infer.err().contains("a tokenizer.json is needed"), infer.err());
    }

    /** not only opened, but used. */
    @Test
    void doctorUsesTheLibraries() {
        Cli.Output output = Cli.qlora("doctor");
        assertEquals(0, output.exit(), output.err());
        assertTrue(output.out().contains("values quantized and dequantized, bit for bit as expected"), output.out());
        assertTrue(output.out().lines().anyMatch(l -> l.startsWith("CUDA")), output.out());
    }

    @Test
    void loggingHasALineForEachStepWithMsSwiftsKeys() throws IOException {
        sft("run", "--split_dataset_ratio", "0.25", "--eval_steps", "2");
        List<JsonNode> steps = steps("run");
        assertEquals(2, steps.size());
        for (JsonNode line : steps) {
            for (String key : List.of(
                    "loss",
                    "grad_norm",
                    "learning_rate",
                    "epoch",
                    "memory(GiB)",
                    "train_speed(s/it)",
                    "tokens_per_second")) {
                assertTrue(line.path(key).isNumber(), key + " in " + line);
            }
        }
        assertEquals("1/2", steps.getFirst().path("global_step/max_steps").textValue());
        assertTrue(lines(folder.resolve("run/logging.jsonl")).stream().anyMatch(line -> line.has("eval_loss")));
    }

    @Test
    void argsJsonHoldsWhatHeld() throws IOException {
        sft("run", "--lora_rank", "4", "--seed", "7");
        JsonNode args = JSON.readTree(folder.resolve("run/args.json").toFile());
        assertEquals(4, args.path("lora_rank").intValue());
        assertEquals(7, args.path("seed").intValue());
        assertEquals(1e-4, args.path("learning_rate").doubleValue());
        assertEquals(List.of(rows.toString()), JSON.convertValue(args.path("dataset"), List.class));
        assertTrue(args.path("quant_method").isNull());
    }

    @Test
    void withoutAQuantMethodTheBaseStaysAsItIs() {
        assertTrue(sft("plain").out().contains(" float32, "));
        assertTrue(sft("bf16", "--torch_dtype", "bfloat16").out().contains(" bfloat16, "));
        assertTrue(sft("nf4", "--quant_method", "bnb", "--quant_bits", "4")
                .out()
                .contains(" nf4 with double quantization, "));
        assertTrue(sft("fp4", "--quant_method=bnb", "--bnb_4bit_quant_type=fp4", "--bnb_4bit_use_double_quant=false")
                .out()
                .contains(" fp4, "));
    }

    @Test
    void aComputeTypeThatTheDeviceDoesNotHaveIsSaid() {
        assertTrue(sft("run", "--bnb_4bit_compute_dtype", "float16")
                .out()
                .contains("bnb_4bit_compute_dtype float16: this device computes in float32"));
    }

    @ParameterizedTest
    @CsvSource({"cpu, 1, cpu: 1 thread", "cpu, 2, cpu: 2 threads", "reference, 1, reference: ", "auto, 0, cpu: "})
    void devicesComputeTheSame(String device, String threads, String description) throws IOException {
        sft("expected", "--threads", "1");
        Cli.Output output = sft("run", "--device", device, "--threads", threads);
        assertTrue(output.out().contains(description), output.out());
        for (int i = 0; i < 2; i++) {
            double expected = steps("expected").get(i).path("loss").doubleValue();
            assertEquals(expected, steps("run").get(i).path("loss").doubleValue(), 1e-4 * expected);
        }
    }

    @Test
    void theSameSeedGivesTheSameFileAndAnAdapterIsTakenUp() throws IOException {
        sft("a", "--learning_rate", "1e-2");
        sft("b", "--learning_rate", "1e-2");
        sft("other", "--learning_rate", "1e-2", "--seed", "1");
        Path file = Path.of("checkpoint-2", "adapter_model.safetensors");
        byte[] a = Files.readAllBytes(folder.resolve("a").resolve(file));
        assertArrayEquals(a, Files.readAllBytes(folder.resolve("b").resolve(file)));
        assertFalse(Arrays.equals(a, Files.readAllBytes(folder.resolve("other").resolve(file))));

        String checkpoint = folder.resolve("a/checkpoint-2").toString();
        sft("on", "--adapters", checkpoint, "--learning_rate", "0", "--weight_decay", "0");
        assertArrayEquals(a, Files.readAllBytes(folder.resolve("on").resolve(file)));
    }

    @Test
    void tokenizedRowsAreTakenAsTheyAre() throws IOException {
        Path tokenized = folder.resolve("tokenized.jsonl");
        Files.writeString(tokenized, "{\"input_ids\": [1, 70, 80, 90, 2], \"labels\": [-100, -100, 80, 90, 2]}\n");
        Path result = folder.resolve("out.jsonl");
        Cli.Output output = Cli.qlora(
                "eval",
                "--model",
                model.toString(),
                "--val_dataset",
                tokenized.toString(),
                "--result_path",
                result.toString());
        assertEquals(0, output.exit(), output.err());
        JsonNode row = lines(result).getFirst();
        assertEquals(3, row.path("label_tokens").intValue());
        assertTrue(row.path("loss").doubleValue() > 0, row.toString());
    }

    private String answer(String... more) {
        List<String> words = new ArrayList<>(
                List.of("infer", "--model", model.toString(), "--prompt", "Hi", "--max_new_tokens", "12"));
        words.addAll(Arrays.asList(more));
        Cli.Output output = Cli.qlora(words.toArray(String[]::new));
        assertEquals(0, output.exit(), output.err());
        return output.out().substring(output.out().indexOf(" s\n") + 3);
    }

    @Test
    void answersAreSampledAsAsked() {
        String greedy = answer("--temperature", "0");
        assertEquals(greedy, answer("--temperature", "0", "--stream", "false"));
        assertEquals(greedy, answer("--temperature", "5", "--top_k", "1"));
        assertEquals(greedy, answer("--temperature", "5", "--top_p", "1e-9"));
        String sampled = answer("--temperature", "5", "--seed", "1");
        assertEquals(sampled, answer("--temperature", "5", "--seed", "1"));
        assertNotEquals(sampled, answer("--temperature", "5", "--seed", "2"));
    }

    @Test
    void aConversationHasTurnsAndCanBeForgotten() {
        Cli.Output output = Cli.qloraTyping(
                "Hi\nAnd you?\nclear\nHi\nquit\n",
                "infer",
                "--model",
                model.toString(),
                "--max_new_tokens",
                "12",
                "--temperature",
                "0");
        assertEquals(0, output.exit(), output.err());
        String[] turns = output.out().split("<<< ", -1);
        assertEquals(6, turns.length, output.out());
        assertNotEquals(turns[1], turns[2]);
        assertEquals("", turns[3], "clear has no answer");
        assertEquals(turns[1], turns[4]);
    }
}
