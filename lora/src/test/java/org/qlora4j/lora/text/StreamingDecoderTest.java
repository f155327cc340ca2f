package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class StreamingDecoderTest {
    /** Mostly invalid UTF-8: every rule of replacement is met. */
    @ParameterizedTest
    @ValueSource(strings = {"tiny_bytelevel_split", "tiny_spm_gemma", "tiny_spm_llama2"})
    void equalsTheLibraryOnRandomTokens(String name) {
        try (Tokenizer tokenizer = TokenizerTest.golden(name)) {
            checkRandom(tokenizer, name);
        }
    }

    /** Other decoders, among them the chain of transformers' GGUF conversion and ones that fuse before they replace. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "null",
                "[{'type':'ByteFallback'},{'type':'Fuse'},{'type':'Replace','pattern':{'String':'▁'},'content':' '}]",
                "[{'type':'Fuse'},{'type':'Replace','pattern':{'String':'▁t'},'content':'<TT>'},"
                        + "{'type':'Strip','content':'e','start':3,'stop':0}]",
                "[{'type':'Fuse'},{'type':'Replace','pattern':{'String':'ee'},'content':'e'}]",
                "[{'type':'Strip','content':'▁','start':2,'stop':0},{'type':'ByteFallback'}]",
                "[{'type':'Metaspace','replacement':'▁','prepend_scheme':'always','split':true}]",
                "[{'type':'Fuse'},{'type':'Metaspace','replacement':'▁','prepend_scheme':'first','split':false}]",
                "[{'type':'Metaspace','replacement':'▁','prepend_scheme':'never','split':true},{'type':'ByteFallback'}]",
                "[{'type':'Fuse'},{'type':'ByteLevel','add_prefix_space':false,'trim_offsets':false,'use_regex':true}]",
                "[{'type':'Fuse'},{'type':'ByteFallback'}]",
            })
    void equalsTheLibraryWithOtherDecoders(String decoders) throws IOException {
        String json = TokenizerTest.edited("tiny_spm_gemma", root -> {
            if (decoders.equals("null")) {
                root.putNull("decoder");
            } else {
                ArrayNode list = parse(decoders);
                root.putObject("decoder").put("type", "Sequence").set("decoders", list);
            }
        });
        try (Tokenizer tokenizer = Tokenizer.fromJson(json)) {
            checkRandom(tokenizer, decoders);
        }
    }

    @Test
    void returnsTextAsSoonAsItIsCertain() {
        try (Tokenizer bytes = TokenizerTest.golden("tiny_bytelevel_split")) {
            StreamingDecoder decoder = bytes.streamingDecoder();
            assertEquals(List.of("o", " ", "", "", "", "🙂", "o"), accept(decoder, bytes.encode("o 🙂o")));
            assertEquals("", decoder.accept(bytes.encode("é")[0]));
            assertEquals("\uFFFD", decoder.finish());
        }
        try (Tokenizer pieces = TokenizerTest.golden("tiny_spm_llama2")) {
            StreamingDecoder decoder = pieces.streamingDecoder();
            // the first token is the space put before the text
            assertEquals(List.of("", "", "", "", "", "🙂o", "o"), accept(decoder, pieces.encode("🙂oo")));
            assertEquals("", decoder.finish());
        }
    }

    @Test
    void skipsSpecialTokens() {
        try (Tokenizer tokenizer = TokenizerTest.golden("tiny_bytelevel_split")) {
            int[] ids = tokenizer.encode("<|begin_of_text|><think>o<|eot_id|>");
            assertEquals(List.of("", "<think>", "o", ""), accept(tokenizer.streamingDecoderSkippingSpecial(), ids));
            assertEquals(
                    List.of("<|begin_of_text|>", "<think>", "o", "<|eot_id|>"),
                    accept(tokenizer.streamingDecoder(), ids));
        }
    }

    @Test
    void isFinishedOnce() {
        try (Tokenizer tokenizer = TokenizerTest.golden("tiny_spm_llama2")) {
            StreamingDecoder decoder = tokenizer.streamingDecoder();
            assertThrows(IllegalArgumentException.class, () -> decoder.accept(-1));
            decoder.finish();
            assertThrows(IllegalStateException.class, () -> decoder.accept(5));
            assertThrows(IllegalStateException.class, decoder::finish);
        }
    }

    private static void checkRandom(Tokenizer tokenizer, String what) {
        SplittableRandom random = new SplittableRandom(7);
        int held = 0;
        for (int round = 0; round < 400; round++) {
            int[] ids = new int[random.nextInt(40)];
            // half of the sequences stay within the first 300 ids, which are the bytes
            int bound = random.nextBoolean() ? 300 : tokenizer.vocabSize() + 5;
            Arrays.setAll(ids, i -> random.nextInt(bound));
            String where = what + ", seed 7, round " + round + ": " + Arrays.toString(ids);
            assertEquals(tokenizer.decode(ids), TokenizerCases.stream(tokenizer.streamingDecoder(), ids), where);
            assertEquals(
                    tokenizer.decodeSkippingSpecial(ids),
                    TokenizerCases.stream(tokenizer.streamingDecoderSkippingSpecial(), ids),
                    where);
            held += ids.length;
        }
        assertTrue(held > 1000, "sequences were long enough to mean something");
    }

    private static List<String> accept(StreamingDecoder decoder, int[] ids) {
        return Arrays.stream(ids).mapToObj(decoder::accept).toList();
    }

    private static ArrayNode parse(String decoders) {
        try {
            ObjectNode wrapped =
                    (ObjectNode) new ObjectMapper().readTree("{\"list\":" + decoders.replace('\'', '"') + "}");
            return (ArrayNode) wrapped.path("list");
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException(decoders, e);
        }
    }
}
