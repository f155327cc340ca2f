package org.qlora4j.lora.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.model.UnsupportedModelException;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.GgufType;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;

class GgufExportTest {
    private static final int[] IDS = {1, 17, 250, 3, 99, 42, 42, 7};

    @TempDir
    Path folder;

    /** A byte-level tokenizer with 256 tokens and two special ones. */
    private ChatText text() throws IOException {
        StringBuilder vocabulary = new StringBuilder();
        for (int b = 0, other = 256; b < 256; b++) {
            boolean printable = b > ' ' && b <= '~' || b >= 0xA1 && b != 0xAD;
            String token = Character.toString(printable ? b : other++);
            String quoted = token.equals("\"") || token.equals("\\") ? "\\" + token : token;
            vocabulary.append(b == 0 ? "" : ",").append("\"" + quoted + "\":" + b);
        }
        Files.writeString(folder.resolve("tokenizer.json"), """
                {"version": "1.0", "added_tokens": [
                  {"id": 256, "content": "<s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
                  {"id": 257, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
                 "normalizer": null,
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
                 "post_processor": null,
                 "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
                 "model": {"type": "BPE", "vocab": {%s}, "merges": []}}""".formatted(vocabulary));
        Files.writeString(
                folder.resolve("tokenizer_config.json"),
                "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"chat_template\": \"{{ messages }}\"}");
        return ChatText.load(folder);
    }

    private static float[] logits(Path model) {
        return logits(model, IDS);
    }

    private static float[] logits(Path model, int... ids) {
        try (Device device = Devices.open("reference", 1);
                ModelSource source = ModelSource.open(model);
                Transformer t = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {})) {
            return t.logits(ids);
        }
    }

    private static float[] floats(TensorFiles files, String name) {
        StoredTensor t = files.get(name);
        float[] values = new float[(int) t.elements()];
        files.readFloats(t, 0, values.length, values, 0);
        return values;
    }

    /**
     * Biases, rope scaling, a shared embedding, fused projections, norms of all kinds and softcaps survive the way
     * through GGUF: to the bit, but for Gemma's factor on the scores, which goes into the queries, and 1 + w.
     */
    @ParameterizedTest
    @ValueSource(strings = {"llama_tied", "qwen3", "mistral", "qwen2", "phi3", "smollm3", "olmo2", "gemma2"})
    void computesTheSameFromGguf(String name) throws IOException {
        Path model = ExportFiles.golden("models/" + name + "/base");
        Path file = folder.resolve("model.gguf");
        try (ChatText text = text();
                ModelSource source = ModelSource.open(model)) {
            GgufExport.write(MergedWeights.of(source), text, GgufType.F32, "tiny", file);
        }
        assertArrayEquals(logits(model), logits(file), name.startsWith("gemma") ? 2e-6f : 0);
        try (Gguf gguf = Gguf.open(file);
                ChatText back = ChatText.load(file)) {
            Map<String, Object> metadata = gguf.metadata();
            String architecture = metadata.get("general.architecture").toString();
            assertEquals(Set.of("llama_tied", "mistral").contains(name) ? "llama" : name.split("_")[0], architecture);
            assertEquals("tiny", metadata.get("general.name"));
            assertEquals(0L, metadata.get("general.file_type"));
            assertEquals("gpt-2", metadata.get("tokenizer.ggml.pre"));
            assertEquals(256L, metadata.get("tokenizer.ggml.bos_token_id"));
            assertEquals(257L, metadata.get("tokenizer.ggml.eos_token_id"));
            assertEquals("{{ messages }}", metadata.get("tokenizer.chat_template"));
            assertEquals(Set.of(257), back.stopIds());
            assertArrayEquals(new int[] {72, 105}, back.tokenizer().encode("Hi"));
        }
    }

    /** Two rope thetas, linear scaling of one, a pattern of windows; ids instead of a text. */
    @Test
    void aModelWithoutTokenizer() throws IOException {
        Path model = ExportFiles.golden("models/gemma3_text_tiny/base");
        Path file = folder.resolve("model.gguf");
        try (ChatText text = ChatText.load(model);
                ModelSource source = ModelSource.open(model)) {
            GgufExport.write(MergedWeights.of(source), text, GgufType.F32, "tiny", file);
        }
        int[] ids = IntStream.range(3, 43).toArray(); // longer than the window of 11
        assertArrayEquals(logits(model, ids), logits(file, ids), 2e-6f);
        try (Gguf gguf = Gguf.open(file);
                ChatText back = ChatText.load(file)) {
            assertEquals("no_vocab", gguf.metadata().get("tokenizer.ggml.model"));
            assertFalse(back.hasTokenizer());
            assertEquals(3L, gguf.metadata().get("gemma3.attention.sliding_window_pattern"));
            // Gemma's norms as 1 + w
            try (ModelSource source = ModelSource.open(model)) {
                float[] w = floats(source.tensors(), "model.norm.weight");
                float[] stored = floats(gguf, "output_norm.weight");
                for (int i = 0; i < w.length; i++) {
                    assertEquals(1 + w[i], stored[i]);
                }
            }
        }
    }

    @Test
    void whatLlamaCppDoesNotHaveIsRefused() throws IOException {
        try (ChatText text = text();
                ModelSource source = ModelSource.open(ExportFiles.golden("models/qwen3_moe/base"))) {
            UnsupportedModelException e = assertThrows(
                    UnsupportedModelException.class,
                    () -> GgufExport.write(
                            MergedWeights.of(source), text, GgufType.F32, "tiny", folder.resolve("model.gguf")));
            assertTrue(e.getMessage().contains("qwen3moe does not have dense layers among"), e.getMessage());
            assertFalse(Files.exists(folder.resolve("model.gguf")));
        }
    }

    /** Llama 3's frequencies go through fp32 factors. */
    @Test
    void scaledFrequenciesSurvive() throws IOException {
        Path model = ExportFiles.golden("models/llama/base");
        Path file = folder.resolve("model.gguf");
        Path again = folder.resolve("again.gguf");
        try (ChatText text = text();
                ModelSource source = ModelSource.open(model)) {
            GgufExport.write(MergedWeights.of(source), text, GgufType.F32, "tiny", file);
            try (ModelSource gguf = ModelSource.open(file)) {
                GgufExport.write(MergedWeights.of(gguf), text, GgufType.F32, "tiny", again);
            }
        }
        assertArrayEquals(logits(model), logits(file), 1e-5f);
        assertArrayEquals(logits(file), logits(again), 1e-5f);
    }

    @ParameterizedTest
    @EnumSource(names = {"F16", "BF16", "Q8_0", "Q4_0"})
    void matricesGetTheTypeAskedFor(GgufType type) throws IOException {
        Path file = folder.resolve("model.gguf");
        try (ChatText text = text();
                ModelSource source = ModelSource.open(ExportFiles.golden("models/llama/base"))) {
            GgufExport.write(MergedWeights.of(source), text, type, "tiny", file);
        }
        try (Gguf gguf = Gguf.open(file)) {
            assertEquals(type, gguf.get("blk.0.attn_q.weight").type());
            assertEquals(
                    type == GgufType.Q4_0 ? GgufType.Q8_0 : type,
                    gguf.get("output.weight").type());
            assertEquals(GgufType.F32, gguf.get("output_norm.weight").type());
            // Llama 3's frequencies: the fast ones stay, the slow ones are divided by the factor 8
            float[] factors = floats(gguf, "rope_freqs.weight");
            assertEquals(1f, factors[0]);
            assertEquals(8f, factors[factors.length - 1]);
        }
    }

    /** B in llama.cpp's row order, times what makes alpha / rank the layer's scale. */
    @Test
    void adaptersHaveLlamaCppsNamesAndScale() throws IOException {
        Path base = ExportFiles.golden("models/llama_tied/base");
        Path file = folder.resolve("adapter.gguf");
        Path peft = ExportFiles.golden("models/llama_tied/adapter_init");
        try (Device device = Devices.open("reference", 1);
                ModelSource source = ModelSource.open(base);
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {});
                LoraAdapter adapter = AdapterFiles.load(model, AdapterFiles.readConfig(peft), peft)) {
            GgufAdapterExport.write(adapter, GgufType.F32, "tiny", file);
            try (Gguf gguf = Gguf.open(file)) {
                assertEquals("adapter", gguf.metadata().get("general.type"));
                assertEquals("lora", gguf.metadata().get("adapter.type"));
                LoraConfig config = adapter.config();
                assertEquals(config.loraAlpha(), gguf.metadata().get("adapter.lora.alpha"));
                assertEquals(2 * 7 * source.config().numLayers(), gguf.names().size());
                // rsLoRA: alpha / sqrt(rank), where llama.cpp takes alpha / rank
                int rank = config.r();
                float factor = (float) Math.sqrt(rank);
                String name = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
                var a = adapter.byName().get(name + "A.weight");
                var b = adapter.byName().get(name + "B.weight");
                assertArrayEquals(adapter.parameters().download(a), floats(gguf, "blk.0.attn_q.weight.lora_a"));
                float[] ours = adapter.parameters().download(b);
                float[] theirs = floats(gguf, "blk.0.attn_q.weight.lora_b");
                int headDim = source.config().headDim();
                for (int row = 0; row < b.value().rows(); row++) {
                    int half = row % headDim / (headDim / 2);
                    int stored = row / headDim * headDim + row % (headDim / 2) * 2 + half;
                    for (int k = 0; k < rank; k++) {
                        assertEquals(factor * ours[row * rank + k], theirs[stored * rank + k], 1e-6f, "row " + row);
                    }
                }
            }
            IllegalArgumentException e = assertThrows(
                    IllegalArgumentException.class,
                    () -> GgufAdapterExport.write(adapter, GgufType.Q8_0, "tiny", folder.resolve("b.gguf")));
            assertTrue(e.getMessage().contains("too short for blocks"), e.getMessage());
        }
    }
}
