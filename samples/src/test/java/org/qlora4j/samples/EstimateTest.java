package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.samples.DemonstrationTest.qlora;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.samples.DemonstrationTest.Output;

/** {@code qlora estimate}: the facts about Qwen3-14B that common claims get wrong, and what it says to a user. */
class EstimateTest {
    @TempDir
    Path folder;

    private static JsonNode json(String... words) throws IOException {
        Output output = qlora(words);
        assertEquals(0, output.exit(), output.err());
        return new ObjectMapper().readTree(output.out());
    }

    @Test
    void factsAboutQwen3_14B() throws IOException {
        JsonNode e = json("estimate", "--model", "Qwen3-14B", "--max_memory", "1TB", "--json", "true");
        assertEquals(4.127, e.path("bits_per_quantized_weight").doubleValue(), 0.0005);
        assertEquals(32_112_640, e.path("parameters").path("lora").longValue());
        assertEquals(13.212e9, e.path("parameters").path("quantized").doubleValue(), 0.001e9);
        assertEquals(6.82e9, e.path("items").path("quantized_linears").doubleValue(), 0.01e9);
        assertEquals(
                2 * 2L * 151936 * 5120,
                e.path("items").path("embeddings_and_head").longValue());
        assertEquals(9.93e9, e.path("base_bytes").doubleValue(), 0.01e9);
        assertEquals(112e9, e.path("full_finetuning_adam_bytes").doubleValue());
        assertEquals(7.08e9, e.path("rule_of_thumb").path("weights_bytes").doubleValue(), 0.01e9);
        assertEquals(13.58e9, e.path("rule_of_thumb").path("low_bytes").doubleValue(), 0.01e9);
        assertEquals(16.08e9, e.path("rule_of_thumb").path("high_bytes").doubleValue(), 0.01e9);
        // adapters, gradients, two moments in fp32
        long trained = 16 * e.path("parameters").path("lora").longValue();
        long state = e.path("items").path("adapters").longValue()
                + e.path("items").path("gradients").longValue()
                + e.path("items").path("optimizer").longValue();
        assertEquals(1, (double) state / trained, 0.001);
        long sum = 0;
        for (JsonNode item : e.path("items")) {
            sum += item.longValue();
        }
        assertEquals(sum, e.path("total_bytes").longValue());
    }

    @Test
    void theRuleOfThumbStandsBesideIt() throws IOException {
        String out = qlora("estimate", "--model", "Qwen/Qwen3-14B", "--max_memory", "1TB")
                .out();
        assertTrue(out.contains("7.08 GB weights + 5-7 GB + 1.5 GB + 1-2 GB = 13.58-16.08 GB"), out);
        assertTrue(out.contains("takes 4.127 bits, not 4.05"), out);
        assertTrue(out.contains("the base is 9.93 GB, not 7.08"), out);
    }

    @Test
    void aConfigAloneIsEnough() throws IOException {
        Files.writeString(folder.resolve("config.json"), """
                {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "vocab_size": 1000, "torch_dtype": "bfloat16"}""");
        for (Path model : new Path[] {folder, folder.resolve("config.json")}) {
            JsonNode e = json("estimate", "--model", model.toString(), "--max_memory", "1TB", "--json", "true");
            assertEquals(
                    2 * (4 * 64 * 64 + 3 * 64 * 128),
                    e.path("parameters").path("quantized").intValue());
            assertEquals(
                    2 * 2 * 1000 * 64,
                    e.path("items").path("embeddings_and_head").intValue());
        }
    }

    @Test
    void aBaseThatIsIn4BitsOnDiskStaysSo() throws IOException {
        Path model = Path.of(System.getProperty("qlora4j.golden"), "models/llama_4bit_tiny/nf4/base");
        JsonNode e = json("estimate", "--model", model.toString(), "--max_memory", "1TB", "--json", "true");
        assertEquals(4.5, e.path("bits_per_quantized_weight").doubleValue(), "no double quantization in this one");
    }

    @Test
    void namesOfTheTable() throws IOException {
        for (String name : new String[] {"Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct", "llama-3.2-1b"}) {
            JsonNode e = json("estimate", "--model", name, "--max_memory", "1TB", "--json", "true");
            assertEquals(1.236e9, e.path("parameters").path("base").doubleValue(), 0.001e9, name);
        }
        Output unknown = qlora("estimate", "--model", "Qwen9-1B");
        assertEquals(2, unknown.exit());
        assertTrue(
                unknown.err().contains("no built-in configuration of that name; there are: Qwen3-0.6B"), unknown.err());
    }

    @Test
    void unquantizedAndSingleQuantized() throws IOException {
        String[] words = {"estimate", "--model", "SmolLM2-135M", "--max_memory", "1TB", "--json", "true"};
        JsonNode nf4 = json(words);
        JsonNode single = json(with(words, "--quant_method", "bnb", "--bnb_4bit_use_double_quant", "false"));
        JsonNode none = json(with(words, "--quant_bits", "16"));
        assertEquals(4.5, single.path("bits_per_quantized_weight").doubleValue(), 1e-9);
        assertEquals(0, none.path("items").path("quantized_linears").longValue());
        assertTrue(
                none.path("base_bytes").longValue() > single.path("base_bytes").longValue());
        assertTrue(
                single.path("base_bytes").longValue() > nf4.path("base_bytes").longValue());
    }

    private static String[] with(String[] words, String... more) {
        String[] all = java.util.Arrays.copyOf(words, words.length + more.length);
        System.arraycopy(more, 0, all, words.length, more.length);
        return all;
    }

    @Test
    void whatCannotFitIsRefusedWithWhatWouldHelp() {
        Output output = qlora(
                "sft",
                "--model",
                Session.DEMO_MODEL,
                "--dataset",
                "alpaca-en#4",
                "--max_memory",
                "500MB",
                "--gradient_checkpointing",
                "false",
                "--output_dir",
                folder.toString());
        assertEquals(2, output.exit(), output.out());
        assertTrue(output.err().contains("there are 500 MB (--max_memory 500MB); what would help"), output.err());
        assertTrue(output.err().contains("--quant_method bnb --quant_bits 4: "), output.err());
        assertTrue(output.err().contains(" MB less"), output.err());
    }

    @Test
    void autoRunsAgainAsFewLayersAsFit() throws IOException {
        String[] words = {"estimate", "--model", "SmolLM2-135M", "--max_length", "512", "--json", "true"};
        long none = total(words, "1TB", "false");
        long all = total(words, "1TB", "true");
        assertTrue(all < none);
        long last = none;
        for (int layers : new int[] {1, 7, 29}) {
            long now = total(words, "1TB", Integer.toString(layers));
            assertTrue(all < now && now < last, layers + " layers: " + now);
            last = now;
        }
        long some = (all + none) / 2;
        JsonNode chosen = estimated(words, Long.toString(some), "auto");
        int layers = chosen.path("checkpointed_layers").intValue();
        assertTrue(chosen.path("total_bytes").longValue() <= some, chosen.toString());
        assertTrue(total(words, "1TB", Integer.toString(layers - 1)) > some, "one layer fewer does not fit");
        assertEquals(
                0, estimated(words, "1TB", "auto").path("checkpointed_layers").intValue());
        String out = qlora(
                        "estimate",
                        "--model",
                        "SmolLM2-135M",
                        "--gradient_checkpointing",
                        "auto",
                        "--max_memory",
                        "100GB")
                .out();
        assertTrue(out.contains("gradient_checkpointing auto: backward runs no layer again; that needs "), out);
        assertTrue(out.contains(", there are 100000 MB (--max_memory 100GB)"), out);
    }

    private static JsonNode estimated(String[] words, String room, String checkpointing) throws IOException {
        return json(with(words, "--max_memory", room, "--gradient_checkpointing", checkpointing));
    }

    private static long total(String[] words, String room, String checkpointing) throws IOException {
        return estimated(words, room, checkpointing).path("total_bytes").longValue();
    }

    @Test
    void layersThatAModelDoesNotHave() {
        Output output = qlora("estimate", "--model", "SmolLM2-135M", "--gradient_checkpointing", "31");
        assertEquals(2, output.exit());
        assertTrue(
                output.err()
                        .contains("--gradient_checkpointing must be true, false, auto or 0 to 30, the model's layers,"
                                + " got 31"),
                output.err());
    }

    @Test
    void sizes() {
        assertEquals(8_000_000_000L, MemoryReport.bytes("8GB"));
        assertEquals(8L << 30, MemoryReport.bytes("8 GiB"));
        assertEquals(1_500_000, MemoryReport.bytes("1.5m"));
        assertEquals(42, MemoryReport.bytes("42"));
        assertThrows(UserException.class, () -> MemoryReport.bytes("lots"));
        assertTrue(MemoryReport.available() > 0 && MemoryReport.peakProcessBytes() > 0);
    }
}
