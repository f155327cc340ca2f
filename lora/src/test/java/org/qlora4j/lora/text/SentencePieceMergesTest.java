package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class SentencePieceMergesTest {
    @Test
    void ordersByScoreThenIds() {
        //                             0    1    2    3    4     5     6      7     8
        List<Object> tokens = List.of("a", "b", "c", "bc", "ab", "abc", "<s>", "<0x61>", "<s>a");
        List<Object> types = List.of(1L, 1L, 1L, 1L, 1L, 4L, 3L, 6L, 1L);
        var vocabulary = new GgufVocabulary(new GgufMetadata(
                Path.of("x"), Map.of("tokenizer.ggml.tokens", tokens, "tokenizer.ggml.token_type", types)));
        List<Double> scores = List.of(-9.0, -9.0, -9.0, -3.0, -2.0, -3.0, 0.0, 0.0, 0.0);
        assertEquals(
                List.of(
                        List.of("a", "b"), // -2
                        List.of("b", "c"), // -3, id 3
                        List.of("a", "bc"), // -3, id 5: left id 0 before left id 4
                        List.of("ab", "c")),
                SentencePieceMerges.of(vocabulary, scores));
    }
}
