package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;

/** A user's mistakes and damaged files: one sentence on standard error, exit code 2, and no output. */
class BadInputTest {
    @TempDir
    Path folder;

    private Path model;
    private Path rows;
    private Path output;

    @BeforeEach
    void prepare() throws IOException {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        model = TinyModel.write(folder.resolve("model"));
        rows = TinyModel.rows(folder.resolve("rows.jsonl"));
        output = folder.resolve("output");
    }

    private void refused(String sentence, String... words) throws IOException {
        Cli.Output result = Cli.qlora(words);
        assertEquals(2, result.exit(), result.out() + result.err());
        assertTrue(result.err().startsWith("qlora: "), result.err());
        assertTrue(result.err().contains(sentence), result.err());
        assertEquals(1, result.err().lines().count(), result.err());
        assertFalse(Files.exists(output), "something was written");
        try (Stream<Path> files = Files.walk(folder)) {
            assertTrue(files.noneMatch(f -> f.toString().endsWith(".tmp")), "temporary files");
        }
    }

    /** Trains on the tiny model, with options that go before. */
    private void refusedTraining(String sentence, String... more) throws IOException {
        String[] words = {
            "sft", "--model", model.toString(), "--dataset", rows.toString(), "--output_dir", output.toString()
        };
        String[] all = Arrays.copyOf(words, words.length + more.length);
        System.arraycopy(more, 0, all, words.length, more.length);
        refused(sentence, all);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "there is no command 'train'; there are: sft, | train",
                "there is no option --learnig_rate; did you mean | sft --learnig_rate 1",
                "--learning_rate must be a number, got 'fast' | sft --dataset x --learning_rate fast",
                "there is no configuration file nothing.yaml | sft nothing.yaml",
                "--dataset is missing | sft --model x",
                "there is no file | sft --model x --dataset nothing.jsonl",
                "there is no model at nowhere | eval --model nowhere --val_dataset alpaca-en#1",
                "--model is missing | infer --prompt Hi",
                "device 'gpu' is not supported; supported: auto, cpu, reference | infer --model x --device gpu",
                "top_p must be in (0, 1], got 2.0 | infer --model x --top_p 2",
                "--max_batch_size must be at least 1, got 0 | infer --model x --max_batch_size 0",
                "--max_batch_size must be at least 1, got -1 | bench --workload generate --model x --max_batch_size -1",
                "export needs | export --model x",
            })
    void optionsAndMissingFiles(String sentence, String words) throws IOException {
        refused(sentence, words.split(" "));
    }

    @Test
    void aTruncatedModel() throws IOException {
        Path file = model.resolve("model.safetensors");
        byte[] bytes = Files.readAllBytes(file);
        Files.write(file, Arrays.copyOf(bytes, bytes.length - 1000));
        refusedTraining("model.safetensors: ");
        Files.write(file, Arrays.copyOf(bytes, 5));
        refusedTraining("model.safetensors: ");
    }

    /** Changes the header's JSON and keeps its length. */
    private void changeHeader(UnaryOperator<String> change) throws IOException {
        Path file = model.resolve("model.safetensors");
        ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        int length = (int) bytes.getLong(0);
        String header = new String(bytes.array(), 8, length, StandardCharsets.UTF_8);
        String changed = change.apply(header);
        assertFalse(changed.equals(header));
        assertEquals(header.length(), changed.length());
        bytes.put(8, changed.getBytes(StandardCharsets.UTF_8));
        Files.write(file, bytes.array());
    }

    @Test
    void overlappingTensors() throws IOException {
        // the last tensor lies where the one before it lies
        changeHeader(header -> header.replaceFirst(
                "\"model.norm.weight\":\\{\"dtype\":\"F32\",\"shape\":\\[64\\],\"data_offsets\":\\[714240,714496\\]",
                "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[400000,400256]"));
        refusedTraining("model.safetensors: ");
    }

    @Test
    void offsetsBehindTheEnd() throws IOException {
        changeHeader(header -> header.replaceFirst(
                "\"model.norm.weight\":\\{\"dtype\":\"F32\",\"shape\":\\[64\\],\"data_offsets\":\\[714240,714496\\]",
                "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[917504,917760]"));
        refusedTraining("model.safetensors: ");
    }

    @Test
    void anAbsurdCountInAGguf() throws IOException {
        Path gguf = folder.resolve("broken.gguf");
        Files.write(
                gguf,
                new byte[] {'G', 'G', 'U', 'F', 3, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, 127, 0, 0, 0, 0, 0, 0, 0, 0});
        refused(
                "broken.gguf: tensors: count 9223372036854775807",
                "eval",
                "--model",
                gguf.toString(),
                "--val_dataset",
                rows.toString());
    }

    @Test
    void anUnknownModelType() throws IOException {
        Files.writeString(model.resolve("config.json"), "{\"model_type\": \"mamba\"}");
        refusedTraining("model_type 'mamba' is not supported; supported: ");
    }

    /** found before training, with the names that exist. */
    @Test
    void aTargetThatMatchesNothing() throws IOException {
        refusedTraining(
                "target_modules 'qkv_proj' matches no layer of the model; there are: q_proj, k_proj, v_proj, "
                        + "o_proj, gate_proj, up_proj, down_proj, lm_head, embed_tokens",
                "--target_modules",
                "qkv_proj");
        refusedTraining("'(' is not a regular expression", "--target_regex", "(");
        refusedTraining("modules_to_save 'norm' is not supported", "--modules_to_save", "norm");
    }

    @Test
    void aRowWithoutAResponse() throws IOException {
        Files.writeString(rows, "{\"query\": \"a\", \"response\": \"b\"}\n{\"query\": \"c\"}\n");
        refusedTraining("rows.jsonl line 2: has no answer", "--strict", "true");
        Files.writeString(rows, "{\"query\": \"c\"}\n");
        refusedTraining("rows.jsonl");
        Files.writeString(rows, "{\"input_ids\": [5, 400], \"labels\": [5, 400]}\n");
        refusedTraining("rows.jsonl", "--strict", "true");
        Files.writeString(rows, "not JSON\n");
        refusedTraining("rows.jsonl", "--strict", "true");
    }

    @Test
    void anAdapterThatIsNone() throws IOException {
        refusedTraining("adapter_config.json", "--adapters", folder.toString());
        Files.writeString(folder.resolve("adapter_config.json"), "{");
        refusedTraining("adapter_config.json", "--adapters", folder.toString());
    }
}
