package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.BooleanNode;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class GgufTokenizerWriterTest {
    private static final SpecialTokens SPM =
            new SpecialTokens(OptionalInt.of(1), OptionalInt.of(2), OptionalInt.empty(), OptionalInt.of(0), Set.of(2));
    private static final SpecialTokens BPE = new SpecialTokens(
            OptionalInt.of(640), OptionalInt.of(641), OptionalInt.of(641), OptionalInt.empty(), Set.of(641, 642));

    /** A file's types are wider than those it was written with. */
    private static Object asRead(Object value) {
        return switch (value) {
            case Integer i -> (long) i;
            case Float f -> (double) f;
            case List<?> list ->
                list.stream().map(GgufTokenizerWriterTest::asRead).toList();
            default -> value;
        };
    }

    private static Map<String, Object> metadata(Tokenizer tokenizer, int vocabSize) {
        boolean bpe = tokenizer.id("<|begin_of_text|>").isPresent();
        Map<String, Object> read = new HashMap<>();
        GgufTokenizerWriter.metadata(tokenizer, bpe ? BPE : SPM, vocabSize)
                .forEach((key, value) -> read.put(key, asRead(value)));
        return read;
    }

    /** Through GGUF and back: the same ids for all golden texts. */
    @ParameterizedTest
    @ValueSource(strings = {"tiny_bytelevel_split", "tiny_spm_gemma", "tiny_spm_llama2"})
    void tokenizersSurvive(String name) {
        Path file = GoldenFiles.path("tokenizer/" + name + "/tokenizer.json");
        try (Tokenizer original = Tokenizer.load(file)) {
            Map<String, Object> metadata = metadata(original, original.vocabSize() + 3);
            GgufTokenizer gguf = GgufTokenizer.of(file, metadata);
            try (Tokenizer back = Tokenizer.fromJson(gguf.tokenizerJson())) {
                int cases = 0;
                for (var node : GoldenFiles.json("tokenizer/" + name + ".json").path("cases")) {
                    String text = node.path("text").asText();
                    assertArrayEquals(original.encode(text), back.encode(text), text);
                    assertArrayEquals(original.encodeWithSpecial(text), back.encodeWithSpecial(text), text);
                    cases++;
                }
                assertTrue(cases >= 60, cases + " cases");
            }
            assertEquals(original.vocabSize() + 3, ((List<?>) metadata.get("tokenizer.ggml.tokens")).size());
            assertEquals(true, metadata.get("tokenizer.ggml.add_bos_token"));
            assertEquals(false, metadata.get("tokenizer.ggml.add_eos_token"));
            if (name.startsWith("tiny_byte")) {
                assertEquals("llama-bpe", metadata.get("tokenizer.ggml.pre"));
                assertEquals(642L, metadata.get("tokenizer.ggml.eot_token_id"));
                assertEquals(Set.of(641, 642), gguf.specialTokens().stop());
            } else {
                assertEquals(name.endsWith("llama2"), metadata.get("tokenizer.ggml.add_space_prefix"));
            }
        }
    }

    @Test
    void aTokenizerLargerThanTheEmbeddingIsRefused() {
        try (Tokenizer tokenizer = Tokenizer.load(GoldenFiles.path("tokenizer/tiny_spm_llama2/tokenizer.json"))) {
            assertTrue(assertThrows(IllegalArgumentException.class, () -> metadata(tokenizer, 700))
                    .getMessage()
                    .contains("the model's embedding only 700 rows"));
        }
    }

    @ParameterizedTest
    @EnumSource
    void everyPreTokenizerIsFoundAgain(GgufPreTokenizer pre) {
        assertEquals(Optional.of(pre), GgufPreTokenizer.of(pre.toJson(), BooleanNode.valueOf(pre.ignoresMerges())));
        assertEquals(Optional.of(pre), GgufPreTokenizer.find(pre.ggufName()));
    }
}
