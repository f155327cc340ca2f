package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;

/** The strings of golden/tokenizer with what Python's tokenizers library makes of them. */
record TokenizerCases(String name, int vocabSize, List<Case> cases) {
    record Case(String text, int[] ids, int[] idsWithSpecial, String decoded, String decodedSkipSpecial) {}

    static TokenizerCases of(String name) {
        JsonNode json = GoldenFiles.json("tokenizer/" + name + ".json");
        List<Case> cases = new ArrayList<>();
        for (JsonNode one : json.path("cases")) {
            cases.add(new Case(
                    one.path("text").asText(),
                    ints(one.path("ids")),
                    ints(one.path("ids_with_special")),
                    one.path("decoded").asText(),
                    one.path("decoded_skip_special").asText()));
        }
        assertEquals(65, cases.size(), "cases of " + name);
        return new TokenizerCases(name, json.path("vocab_size").asInt(), cases);
    }

    /** Everything Python gave, Java gives: ids, texts, streamed texts. */
    void check(Tokenizer tokenizer) {
        assertEquals(vocabSize, tokenizer.vocabSize(), name);
        for (Case one : cases) {
            String where = name + ": " + one.text;
            assertArrayEquals(one.ids, tokenizer.encode(one.text), where);
            assertArrayEquals(one.idsWithSpecial, tokenizer.encodeWithSpecial(one.text), where);
            assertEquals(one.decoded, tokenizer.decode(one.ids), where);
            assertEquals(one.decodedSkipSpecial, tokenizer.decodeSkippingSpecial(one.idsWithSpecial), where);
            assertEquals(one.decoded, stream(tokenizer.streamingDecoder(), one.ids), where);
            assertEquals(
                    one.decodedSkipSpecial,
                    stream(tokenizer.streamingDecoderSkippingSpecial(), one.idsWithSpecial),
                    where);
            Encoding encoding = tokenizer.encodeWithOffsets(one.text);
            assertArrayEquals(one.ids, encoding.ids(), where);
            checkCover(encoding, one.text, where);
        }
    }

    static String stream(StreamingDecoder decoder, int[] ids) {
        StringBuilder all = new StringBuilder();
        for (int id : ids) {
            all.append(decoder.accept(id));
        }
        return all.append(decoder.finish()).toString();
    }

    /** Positions do not decrease, cover every char, and cut no surrogate pair. */
    static void checkCover(Encoding encoding, String text, String where) {
        int covered = 0;
        for (int i = 0; i < encoding.size(); i++) {
            int start = encoding.starts()[i];
            int end = encoding.ends()[i];
            assertTrue(start <= covered && end >= covered && start < end, where + ": token " + i);
            assertTrue(i == 0 || start >= encoding.starts()[i - 1], where + ": order of token " + i);
            assertTrue(onBoundary(text, start) && onBoundary(text, end), where + ": surrogates at token " + i);
            covered = end;
        }
        assertEquals(text.length(), covered, where);
    }

    private static boolean onBoundary(String text, int at) {
        return at == 0
                || at == text.length()
                || !Character.isLowSurrogate(text.charAt(at))
                || !Character.isHighSurrogate(text.charAt(at - 1));
    }

    private static int[] ints(JsonNode array) {
        int[] ints = new int[array.size()];
        for (int i = 0; i < ints.length; i++) {
            ints[i] = array.path(i).asInt();
        }
        return ints;
    }
}
