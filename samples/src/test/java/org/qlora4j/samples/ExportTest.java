package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
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
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.GgufType;
import org.qlora4j.nf4.file.Safetensors;

/** {@code qlora export} of the demonstration model, as a user runs it. */
class ExportTest {
    @TempDir
    Path folder;

    private static String qlora(int expectedExit, String... words) {
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (PrintStream both = new PrintStream(bytes, true, StandardCharsets.UTF_8)) {
            System.setOut(both);
            System.setErr(both);
            int exit = Main.run(List.of(words));
            String text = bytes.toString(StandardCharsets.UTF_8);
            assertEquals(expectedExit, exit, text);
            return text;
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
    }

    /** The answer, which is the last line. */
    private static String ask(String model, String... options) {
        List<String> words = new ArrayList<>(List.of("infer", "--model", model, "--prompt", "Who was Goethe?"));
        words.addAll(List.of("--max_new_tokens", "8", "--stream", "false"));
        words.addAll(List.of(options));
        return qlora(0, words.toArray(String[]::new)).lines().toList().getLast();
    }

    @Test
    void ggufAnswersAsTheOriginal() {
        Path file = folder.resolve("model.gguf");
        String[] command = {
            "export",
            "--model",
            Session.DEMO_MODEL,
            "--to_gguf",
            "true",
            "--outtype",
            "bf16",
            "--outfile",
            file.toString()
        };
        assertTrue(qlora(0, command).contains("model in BF16: " + file));
        try (Gguf gguf = Gguf.open(file)) {
            assertEquals(GgufType.BF16, gguf.get("token_embd.weight").type());
            assertEquals("smollm", gguf.metadata().get("tokenizer.ggml.pre"));
        }
        assertEquals(ask(Session.DEMO_MODEL), ask(file.toString()));
        assertTrue(qlora(2, command).contains("exists already; name another with --outfile"));
    }

    @Test
    void fourBitsAnswerAsTheOriginal() throws IOException {
        Path output = folder.resolve("nf4");
        String done = qlora(
                0,
                "export",
                "--model",
                Session.DEMO_MODEL,
                "--quant_method",
                "bnb",
                "--quant_bits",
                "4",
                "--bnb_4bit_blocksize",
                "32",
                "--output_dir",
                output.toString());
        assertTrue(done.contains("model in nf4 of bfloat16 with double quantization"), done);
        try (Safetensors file = Safetensors.open(output)) {
            assertTrue(file.find("model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4")
                    .isPresent());
        }
        assertTrue(Files.isRegularFile(output.resolve("tokenizer.json")));
        String[] options = {"--quant_method", "bnb", "--quant_bits", "4", "--bnb_4bit_blocksize", "32"};
        assertEquals(ask(Session.DEMO_MODEL, options), ask(output.toString()));
    }

    @Test
    void mistakesAreNamed() {
        assertTrue(qlora(2, "export", "--model", Session.DEMO_MODEL)
                .contains("--quant_method bnb, --to_gguf true or --output_dir DIR"));
        String file = folder.resolve("x.gguf").toString();
        assertTrue(qlora(
                        2,
                        "export",
                        "--model",
                        Session.DEMO_MODEL,
                        "--to_gguf",
                        "true",
                        "--outtype",
                        "q4_k_m",
                        "--outfile",
                        file)
                .contains("supported: f32, f16, bf16, q8_0, q4_0"));
        assertTrue(qlora(
                        2,
                        "export",
                        "--model",
                        Session.DEMO_MODEL,
                        "--to_gguf",
                        "true",
                        "--outtype",
                        "q4_k",
                        "--outfile",
                        file)
                .contains("supported: f32, f16, bf16, q8_0, q4_0"));
    }
}
