package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class TokenizerTest {
    @ParameterizedTest
    @ValueSource(strings = {"tiny_bytelevel_split", "tiny_spm_gemma", "tiny_spm_llama2"})
    void givesWhatPythonGives(String name) {
        try (Tokenizer tokenizer = golden(name)) {
            TokenizerCases.of(name).check(tokenizer);
        }
    }

    @Test
    void offsetsAreJavaCharsAndBytesOfOneCharacterShareIt() {
        try (Tokenizer tokenizer = golden("tiny_bytelevel_split")) {
            String text = "o 🙂 <think>";
            Encoding encoding = tokenizer.encodeWithOffsets(text);
            List<String> parts = new ArrayList<>();
            for (int i = 0; i < encoding.size(); i++) {
                parts.add(text.substring(encoding.starts()[i], encoding.ends()[i]));
            }
            assertEquals(List.of("o", " ", "🙂", "🙂", "🙂", "🙂", " ", "<think>"), parts);
        }
    }

    @Test
    void trimmedSpacesStillBelongToTheirToken() throws IOException {
        String json = edited(
                "tiny_bytelevel_split",
                root -> ((ObjectNode) root.at("/post_processor/processors/0")).put("trim_offsets", true));
        try (Tokenizer trimming = Tokenizer.fromJson(json);
                Tokenizer plain = golden("tiny_bytelevel_split")) {
            String text = "Hello  world <think> x";
            assertArrayEquals(
                    plain.encodeWithOffsets(text).starts(),
                    trimming.encodeWithOffsets(text).starts());
            assertArrayEquals(
                    plain.encodeWithOffsets(text).ids(),
                    trimming.encodeWithOffsets(text).ids());
            assertArrayEquals(plain.encodeWithSpecial(text), trimming.encodeWithSpecial(text));
            assertEquals(json, trimming.json());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"e\u0301 \u212B x", "\u1100\u1161\u11A8", "x\u0301\u0301", "  e\u0301  "})
    void whatANormalizerRemovesBelongsToTheTokenBefore(String text) throws IOException {
        String nfc = edited(
                "tiny_bytelevel_split", root -> root.putObject("normalizer").put("type", "NFC"));
        String strip = edited(
                "tiny_bytelevel_split",
                root -> root.putObject("normalizer")
                        .put("type", "Strip")
                        .put("strip_left", true)
                        .put("strip_right", true));
        for (String json : List.of(nfc, strip)) {
            try (Tokenizer tokenizer = Tokenizer.fromJson(json)) {
                TokenizerCases.checkCover(tokenizer.encodeWithOffsets(text), text, text);
            }
        }
    }

    @Test
    void truncationAndPaddingOfTheFileAreOff() throws IOException {
        String json = edited("tiny_spm_gemma", root -> {
            root.putObject("truncation")
                    .put("direction", "Right")
                    .put("max_length", 3)
                    .put("strategy", "LongestFirst")
                    .put("stride", 0);
            root.putObject("padding")
                    .put("direction", "Right")
                    .put("pad_id", 0)
                    .put("pad_type_id", 0)
                    .put("pad_token", "<unk>")
                    .putNull("pad_to_multiple_of")
                    .putObject("strategy")
                    .put("Fixed", 64);
        });
        try (Tokenizer limited = Tokenizer.fromJson(json);
                Tokenizer plain = golden("tiny_spm_gemma")) {
            String text = "the quick brown fox jumps over the lazy dog";
            assertTrue(plain.encode(text).length > 3);
            assertArrayEquals(plain.encode(text), limited.encode(text));
        }
    }

    @Test
    void looksUpTokens() {
        try (Tokenizer tokenizer = golden("tiny_bytelevel_split")) {
            assertEquals(OptionalInt.of(643), tokenizer.id("<think>"));
            assertEquals(Optional.of("<|eot_id|>"), tokenizer.token(642));
            assertTrue(tokenizer.isSpecial(642));
            assertFalse(tokenizer.isSpecial(643), "<think> is added, not special");
            assertEquals(OptionalInt.empty(), tokenizer.id("no such token"));
            assertEquals(Optional.empty(), tokenizer.token(645));
            assertEquals(Optional.empty(), tokenizer.token(-1));
        }
    }

    @Test
    void refusesWhatIsNoTextAndNoId() {
        try (Tokenizer tokenizer = golden("tiny_spm_llama2")) {
            for (String bad : List.of("a\uD83D", "\uDE42", "x\uD83Dy")) {
                var e = assertThrows(IllegalArgumentException.class, () -> tokenizer.encode(bad));
                assertTrue(e.getMessage().contains("unpaired surrogate"), e.getMessage());
            }
            assertThrows(IllegalArgumentException.class, () -> tokenizer.decode(new int[] {5, -100}));
            assertEquals(tokenizer.decode(new int[] {480, 481}), tokenizer.decode(new int[] {480, 99_999, 481}));
        }
    }

    @Test
    void afterCloseEncodingFailsAndStreamingStillWorks() {
        Tokenizer tokenizer = golden("tiny_spm_llama2");
        int[] ids = tokenizer.encode("the end");
        tokenizer.close();
        tokenizer.close();
        assertThrows(IllegalStateException.class, () -> tokenizer.encode("x"));
        assertThrows(IllegalStateException.class, () -> tokenizer.decode(ids));
        assertEquals("the end", TokenizerCases.stream(tokenizer.streamingDecoder(), ids));
    }

    @Test
    void threadsShareATokenizer() throws InterruptedException, ExecutionException {
        TokenizerCases golden = TokenizerCases.of("tiny_bytelevel_split");
        try (Tokenizer tokenizer = golden(golden.name());
                ExecutorService threads = Executors.newFixedThreadPool(4)) {
            List<Future<?>> runs = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                runs.add(threads.submit(() -> golden.check(tokenizer)));
            }
            for (Future<?> run : runs) {
                run.get();
            }
        }
    }

    static Tokenizer golden(String name) {
        return Tokenizer.load(GoldenFiles.path("tokenizer/" + name));
    }

    interface Edit {
        void apply(ObjectNode root);
    }

    static String edited(String name, Edit edit) throws IOException {
        String json = Files.readString(GoldenFiles.path("tokenizer/" + name + "/tokenizer.json"));
        ObjectNode root = (ObjectNode) new ObjectMapper().readTree(json);
        edit.apply(root);
        return root.toString();
    }
}
