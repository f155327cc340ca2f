package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.file.ModelFormatException;

/** Files that are wrong: some of them would end the process if the native library saw them. */
class TokenizerHostileTest {
    private static final String BYTES = "tiny_bytelevel_split";
    private static final String PIECES = "tiny_spm_llama2";

    private static Arguments replace(String kind, String pattern) {
        return edit(BYTES, "must replace some text", root -> {
            ObjectNode normalizer = root.putObject("normalizer").put("type", "Replace");
            normalizer.put("content", "a").putObject("pattern").put(kind, pattern);
        });
    }

    static Stream<Arguments> edits() {
        return Stream.of(
                edit(
                        PIECES,
                        "Strip",
                        root -> object(root, "/decoder/decoders/3").put("stop", 5)),
                edit(
                        PIECES,
                        "Strip",
                        root -> object(root, "/decoder/decoders/3").put("start", -1)),
                edit(
                        PIECES,
                        "Replace",
                        root -> object(root, "/decoder/decoders/0/pattern").put("String", "")),
                edit(BYTES, "CTC", root -> root.putObject("decoder").put("type", "CTC")),
                edit(
                        PIECES,
                        "declared",
                        root -> object(root, "/post_processor/special_tokens").removeAll()),
                edit(
                        PIECES,
                        "with its id",
                        root -> array(root, "/post_processor/special_tokens/<s>/ids")
                                .removeAll()
                                .add(99_999)),
                edit(
                        PIECES,
                        "with its id",
                        root -> array(root, "/post_processor/special_tokens/<s>/tokens")
                                .removeAll()),
                edit(
                        PIECES,
                        "sequence",
                        root -> object(root, "/post_processor/single/1/Sequence")
                                .put("id", "B")),
                edit(PIECES, "array", root -> object(root, "/post_processor").put("single", "$A")),
                edit(
                        BYTES,
                        "RobertaProcessing",
                        root -> root.putObject("post_processor").put("type", "RobertaProcessing")),
                edit(
                        BYTES,
                        "Precompiled",
                        root -> root.putObject("normalizer")
                                .put("type", "Precompiled")
                                .put("precompiled_charsmap", "AAAA")),
                replace("String", ""),
                replace("Regex", "a*|b{3}"),
                replace("Regex", "(?=x)|\\b"),
                replace("Regex", "$"),
                replace("Regex", "x(?!y)|(?<=z)\\B"),
                edit(BYTES, "643", root -> object(root, "/added_tokens/3").put("id", 700)),
                edit(BYTES, "id", root -> object(root, "/added_tokens/3").put("id", -1)),
                edit(BYTES, "added_tokens", root -> root.put("added_tokens", "none")),
                edit(BYTES, "2147483647", root -> object(root, "/model/vocab").put("zzz", 5_000_000_000L)),
                edit(BYTES, "out of proportion", root -> {
                    root.putArray("added_tokens");
                    object(root, "/model/vocab").put("zzz", Integer.MAX_VALUE);
                }),
                edit(BYTES, "same id 5", root -> {
                    root.putArray("added_tokens");
                    root.putNull("post_processor");
                    object(root, "/model/vocab").put("zzz", 5);
                }),
                edit(
                        BYTES,
                        "out of vocabulary",
                        root -> array(root, "/model/merges").addArray().add("t").add("zzz")),
                edit(BYTES, "dropout", root -> object(root, "/model").put("dropout", 0.1)),
                edit(
                        BYTES,
                        "continuing_subword_prefix",
                        root -> object(root, "/model").put("continuing_subword_prefix", "################")),
                edit(BYTES, "Unigram", root -> object(root, "/model").put("type", "Unigram")),
                edit(BYTES, "merges", root -> object(root, "/model").remove("merges")),
                edit(BYTES, "vocab", root -> object(root, "/model/vocab").removeAll()),
                edit(BYTES, "model", root -> root.remove("model")),
                edit(
                        BYTES,
                        "refuses it",
                        root -> object(root, "/pre_tokenizer/pretokenizers/0/pattern")
                                .put("Regex", "(a+$(")));
    }

    private static Arguments edit(String name, String expected, TokenizerTest.Edit edit) {
        return Arguments.of(name, expected, edit);
    }

    @ParameterizedTest
    @MethodSource("edits")
    void refuses(String name, String expected, TokenizerTest.Edit edit, @TempDir Path folder) throws IOException {
        String json = TokenizerTest.edited(name, edit);
        var e = assertThrows(IllegalArgumentException.class, () -> Tokenizer.fromJson(json));
        assertTrue(e.getMessage().contains(expected), e.getMessage());
        Path file = Files.writeString(folder.resolve("tokenizer.json"), json);
        assertEquals(
                file,
                assertThrows(ModelFormatException.class, () -> Tokenizer.load(folder))
                        .file());
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "null",
                "[]",
                "{",
                "{\"model\":3}",
                "{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}",
                "{\"model\":{\"type\":null,\"vocab\":{\"a\":0},\"merges\":[]}}",
                "{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}",
                "{\"model\":{\"vocab\":{\"a\":0.5},\"merges\":[]}}",
                "{\"model\":{\"vocab\":{\"a\":null},\"merges\":[]}}",
            })
    void refusesText(String json) {
        assertThrows(IllegalArgumentException.class, () -> Tokenizer.fromJson(json));
    }

    @Test
    void refusesDeepNesting() {
        String deep = "{\"decoder\":" + "[".repeat(100_000) + "]".repeat(100_000) + "}";
        assertThrows(IllegalArgumentException.class, () -> Tokenizer.fromJson(deep));
    }

    @Test
    void namesTheMissingOrUnreadableFile(@TempDir Path folder) throws IOException {
        var missing = assertThrows(ModelFormatException.class, () -> Tokenizer.load(folder));
        assertTrue(missing.getMessage().contains("tokenizer.json"), missing.getMessage());
        Files.write(folder.resolve("tokenizer.json"), new byte[] {'{', (byte) 0xFF, '}'});
        var bytes = assertThrows(ModelFormatException.class, () -> Tokenizer.load(folder));
        assertTrue(bytes.getMessage().contains("UTF-8"), bytes.getMessage());
    }

    private static ObjectNode object(ObjectNode root, String path) {
        return (ObjectNode) root.at(path);
    }

    private static ArrayNode array(ObjectNode root, String path) {
        return (ArrayNode) root.at(path);
    }

    @Test
    void expressionsThatTakeSomeTextAreNormalizers() throws IOException {
        String json = TokenizerTest.edited(
                BYTES,
                root -> root.putObject("normalizer")
                        .put("type", "Replace")
                        .put("content", "a")
                        .putObject("pattern")
                        .put("Regex", "\\s+(?!\\S)|(?<=b)c|\\\\b?x$"));
        try (Tokenizer tokenizer = Tokenizer.fromJson(json)) {
            assertArrayEquals(tokenizer.encode("ba"), tokenizer.encode("bc"));
        }
    }
}
