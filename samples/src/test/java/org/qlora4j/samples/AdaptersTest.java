package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.samples.Cli.qlora;
import static org.qlora4j.samples.Cli.qloraTyping;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.samples.Cli.Output;

/** Options of adapters and of bits, as a user gives them, on a tiny model. */
class AdaptersTest {
    @TempDir
    Path folder;

    private Path model;
    private Path data;

    private void prepare() throws IOException {
        model = TinyModel.write(folder.resolve("model"));
        data = folder.resolve("rows.jsonl");
        Files.writeString(
                data, "{\"query\": \"ab\", \"response\": \"cde\"}\n{\"query\": \"b\", \"response\": \"fg\"}\n");
    }

    private Path train(String name, String... options) {
        List<String> words = new ArrayList<>(List.of(
                "sft",
                "--model",
                model.toString(),
                "--dataset",
                data.toString(),
                "--output_dir",
                folder.resolve(name).toString(),
                "--add_version",
                "false",
                "--max_steps",
                "2",
                "--gradient_accumulation_steps",
                "1",
                "--learning_rate",
                "0.05",
                "--lora_rank",
                "2"));
        words.addAll(List.of(options));
        Output output = qlora(words.toArray(String[]::new));
        assertEquals(0, output.exit(), output.err() + output.out());
        return folder.resolve(name).resolve("checkpoint-2");
    }

    private double loss(String... options) {
        List<String> words =
                new ArrayList<>(List.of("eval", "--model", model.toString(), "--val_dataset", data.toString()));
        words.addAll(List.of(options));
        Output output = qlora(words.toArray(String[]::new));
        assertEquals(0, output.exit(), output.err());
        Matcher m = Pattern.compile("eval_loss ([0-9.]+)").matcher(output.out());
        assertTrue(m.find(), output.out());
        return Double.parseDouble(m.group(1));
    }

    @Test
    void severalAdaptersAreChangedAndCombined() throws IOException {
        prepare();
        Path a = train("a", "--init_weights", "pissa", "--target_modules", "q_proj", "down_proj");
        Path b = train("b", "--use_rslora", "true", "--init_weights", "olora");
        double base = loss();
        double onlyA = loss("--adapters", a.toString());
        double onlyB = loss("--adapters", b.toString());
        assertNotEquals(base, onlyA);
        assertEquals(
                base,
                loss("--adapters", a.toString(), b.toString(), "--adapter_weights", "0", "0"),
                2e-6,
                "weights of 0");
        assertEquals(
                onlyB,
                loss("--adapters", a.toString(), b.toString(), "--adapter_weights", "0", "1"),
                1e-5, // the factors of both are one product of twice the rank: fp32 sums in another order, 4e-6 seen of
                // a loss of 5.8
                "one of them");
        Output chat = qloraTyping(
                "ab\nadapter second\nadapter base\nadapter third\nexit\n",
                "infer",
                "--model",
                model.toString(),
                "--adapters",
                "first=" + a,
                "second=" + b,
                "--max_new_tokens",
                "3");
        assertEquals(0, chat.exit(), chat.err());
        assertTrue(chat.out().contains("'adapter NAME' changes the adapter: first, second, base"), chat.out());
        assertTrue(chat.out().contains("adapter second\n"), chat.out());
        assertTrue(chat.out().contains("adapter base\n"), chat.out());
        assertTrue(chat.out().contains("there is no adapter 'third'; there are: first, second, base"), chat.out());

        Output refused = qlora(
                "eval", "--model", model.toString(), "--val_dataset", data.toString(), "--adapters", a + "", b + "");
        assertEquals(2, refused.exit());
        assertTrue(refused.err().contains("several --adapters need --adapter_weights"), refused.err());
        refused = qlora("infer", "--model", model.toString(), "--adapters", "x=" + a, "x=" + b);
        assertEquals(2, refused.exit());
        assertTrue(refused.err().contains("two adapters are called 'x'"), refused.err());
    }

    @Test
    void theTrainedPartsOfTheEmbeddingComeBack() throws IOException {
        prepare();
        for (String[] options : new String[][] {
            {"--use_dora", "true", "--trainable_token_indices", "[3, 70]"},
            {"--modules_to_save", "embed_tokens", "lm_head", "--layers_to_transform", "1"},
        }) {
            Path adapter = train("run" + options.length, options);
            Path merged = folder.resolve("merged" + options.length);
            Output export = qlora(
                    "export",
                    "--model",
                    model.toString(),
                    "--adapters",
                    adapter.toString(),
                    "--merge_lora",
                    "true",
                    "--output_dir",
                    merged.toString());
            assertEquals(0, export.exit(), export.err());
            double withAdapter = loss("--adapters", adapter.toString());
            Path base = model;
            model = merged;
            assertEquals(withAdapter, loss(), 1e-4);
            model = base;
        }
    }

    @Test
    void bits() throws IOException {
        prepare();
        double exact = loss();
        double eight = loss("--quant_bits", "8", "--quantize_embeddings", "8");
        assertNotEquals(exact, eight);
        assertEquals(exact, eight, 0.01 * exact);
        assertEquals(exact, loss("--quant_bits", "0"));
        Path adapter = train("eight", "--quant_bits", "8", "--quantize_embeddings", "8");
        Output reopened = qlora(
                "eval",
                "--model",
                model.toString(),
                "--val_dataset",
                data.toString(),
                "--adapters",
                adapter.toString());
        assertTrue(
                reopened.out().contains("int8, embedding and output layer int8"), "as in training: " + reopened.out());
        for (String[] wrong : new String[][] {
            {"--quant_bits", "5", "quant_method bnb with quant_bits 5 is not supported; supported: bnb with 4 or 8 bits"
            },
            {"--quantize_embeddings", "4", "quantize_embeddings must be 8 or 0, got 4"}
        }) {
            Output output =
                    qlora("eval", "--model", model.toString(), "--val_dataset", data.toString(), wrong[0], wrong[1]);
            assertEquals(2, output.exit());
            assertTrue(output.err().contains(wrong[2]), output.err());
        }
    }
}
