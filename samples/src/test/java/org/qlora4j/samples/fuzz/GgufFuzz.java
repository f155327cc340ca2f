package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.GgufTensor;
import org.qlora4j.nf4.file.GgufType;
import org.qlora4j.nf4.file.GgufWriter;

/** GGUF: its tensors, the configuration made of its metadata, and its tokenizer; the first byte says which. */
class GgufFuzz {
    private static final Path FILE = Fuzzing.folder().resolve("model.gguf");

    static Stream<Arguments> seeds() throws IOException {
        Map<String, Object> metadata = new LinkedHashMap<>();
        metadata.put("general.architecture", "llama");
        for (String key : List.of("block_count", "attention.head_count", "attention.head_count_kv")) {
            metadata.put("llama." + key, 1);
        }
        metadata.put("llama.embedding_length", 32);
        metadata.put("llama.feed_forward_length", 32);
        metadata.put("llama.context_length", 64);
        metadata.put("llama.attention.layer_norm_rms_epsilon", 1e-5f);
        metadata.put("llama.rope.freq_base", 10000f);
        metadata.put("tokenizer.ggml.model", "llama");
        metadata.put("tokenizer.ggml.tokens", List.of("<unk>", "<s>", "</s>", "\u2581", "a", "b", "\u2581a"));
        metadata.put("tokenizer.ggml.scores", List.of(0f, 0f, 0f, -3f, -4f, -5f, -1f));
        metadata.put("tokenizer.ggml.token_type", List.of(2, 3, 3, 1, 1, 1, 1));
        metadata.put("tokenizer.ggml.unknown_token_id", 0);
        metadata.put("tokenizer.ggml.bos_token_id", 1);
        metadata.put("tokenizer.ggml.eos_token_id", 2);
        metadata.put("tokenizer.ggml.add_bos_token", true);
        metadata.put("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}");
        List<GgufTensor> tensors = List.of(
                GgufTensor.of("token_embd.weight", GgufType.Q4_0, 7, 32),
                GgufTensor.of("output_norm.weight", GgufType.F32, 32),
                GgufTensor.of("blk.0.attn_q.weight", GgufType.F16, 1, 32),
                GgufTensor.of("blk.0.attn_k.weight", GgufType.Q8_0, 1, 32));
        GgufWriter.write(FILE, metadata, tensors, (tensor, sink) -> {
            float[] values = new float
                    [(int) tensor.shape().stream().reduce(1L, (a, b) -> a * b).longValue()];
            sink.writeFloats(values, 0, values.length);
        });
        byte[] file = Files.readAllBytes(FILE);
        byte[][] seeds = new byte[3][file.length + 1];
        for (int i = 0; i < seeds.length; i++) {
            seeds[i][0] = (byte) i;
            System.arraycopy(file, 0, seeds[i], 1, file.length);
        }
        return Fuzzing.seeds(seeds);
    }

    @MethodSource("seeds")
    @FuzzTest
    void file(byte[] input) {
        Fuzzing.hold(() -> {
            Files.write(FILE, Fuzzing.rest(input));
            switch (Fuzzing.choice(input, 3)) {
                case 0 -> {
                    try (Gguf gguf = Gguf.open(FILE)) {
                        SafetensorsFuzz.readAll(gguf);
                    }
                }
                case 1 -> {
                    try (ModelSource source = ModelSource.open(FILE)) {
                        SafetensorsFuzz.readAll(source.tensors());
                    }
                }
                default -> {
                    try (ChatText text = ChatText.load(FILE)) {
                        text.tokenizer().decode(text.tokenizer().encode("a b<s> \u00e9"));
                        text.chatTemplate();
                    }
                }
            }
        });
    }
}
