package org.qlora4j.lora.text;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.NullNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * What Java needs to know of a tokenizer.json, read and checked before the native library sees it: the library ends the
 * process on some wrong files (an index out of bounds in Rust aborts), and silently renumbers added tokens.
 */
final class TokenizerJson {
    // two values for one name are an error: this reader and the native one could take different ones
    private static final ObjectMapper JSON = JsonMapper.builder(JsonFactory.builder()
                    .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                    .build())
            .build();

    private final Map<String, Integer> vocabulary = new HashMap<>();
    private boolean modelSeen;
    private final Map<String, JsonNode> sections = new HashMap<>();
    private final TokenTable tokens;
    private final String text;

    /**
     * Reads the text of a tokenizer.json.
     *
     * @throws IllegalArgumentException if it is damaged or has a part that is not supported
     */
    TokenizerJson(String json) {
        text = json;
        try (JsonParser parser = JSON.createParser(json)) {
            expect(parser, parser.nextToken(), JsonToken.START_OBJECT, "the file");
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                topLevel(parser);
            }
            expect(parser, parser.currentToken(), JsonToken.END_OBJECT, "the file");
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException("not valid JSON: " + e.getMessage(), e);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        if (!modelSeen) {
            throw new IllegalArgumentException("has no section 'model'");
        }
        tokens = TokenTable.of(vocabulary, section("added_tokens"));
        TokenizerSections.checkNormalizer(section("normalizer"));
        TokenizerSections.checkPostProcessor(section("post_processor"), tokens);
        new DecoderChain(section("decoder")); // refuses what it does not know
    }

    TokenTable tokens() {
        return tokens;
    }

    JsonNode decoder() {
        return section("decoder");
    }

    /**
     * The text for the native library. It equals the original unless the post-processor trims the spaces off the
     * offsets of tokens, which would leave those characters to no token; that only concerns offsets, never ids.
     */
    String forNative() {
        JsonNode postProcessor = section("post_processor");
        if (postProcessor.findValues("trim_offsets").stream().noneMatch(JsonNode::asBoolean)) {
            return text;
        }
        JsonNode edited = postProcessor.deepCopy();
        edited.findParents("trim_offsets").forEach(parent -> ((ObjectNode) parent).put("trim_offsets", false));
        StringWriter out = new StringWriter(text.length());
        try (JsonParser parser = JSON.createParser(text);
                JsonGenerator generator = JSON.createGenerator(out)) {
            parser.nextToken();
            generator.writeStartObject();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                generator.writeFieldName(parser.currentName());
                boolean edit = parser.currentName().equals("post_processor");
                parser.nextToken();
                if (edit) {
                    parser.skipChildren();
                    JSON.writeTree(generator, edited);
                } else {
                    generator.copyCurrentStructure(parser);
                }
            }
            generator.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return out.toString();
    }

    private JsonNode section(String name) {
        return sections.getOrDefault(name, NullNode.getInstance());
    }

    private void topLevel(JsonParser parser) throws IOException {
        String name = parser.currentName();
        JsonToken value = parser.nextToken();
        switch (name) {
            case "model" -> {
                expect(parser, value, JsonToken.START_OBJECT, "section 'model'");
                modelSeen = true;
                model(parser);
            }
            case "added_tokens", "normalizer", "post_processor", "decoder" ->
                sections.put(name, JSON.<JsonNode>readTree(parser));
            default -> parser.skipChildren();
        }
    }

    private void model(JsonParser parser) throws IOException {
        boolean merges = false;
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String name = parser.currentName();
            JsonToken value = parser.nextToken();
            switch (name) {
                case "type" -> demand(parser.getText().equals("BPE"), "model type", parser, "'BPE'");
                // random merges while training would make encoding depend on time and thread
                case "dropout" ->
                    demand(
                            value == JsonToken.VALUE_NULL || value.isNumeric() && parser.getDoubleValue() == 0,
                            "model dropout",
                            parser,
                            "null");
                // the library cuts a token at the length of a prefix without looking, which ends the process
                case "continuing_subword_prefix", "end_of_word_suffix" ->
                    demand(
                            value == JsonToken.VALUE_NULL || parser.getText().isEmpty(),
                            "model " + name,
                            parser,
                            "null or empty");
                case "vocab" -> {
                    expect(parser, value, JsonToken.START_OBJECT, "model vocab (of a BPE model)");
                    vocabulary(parser);
                }
                case "merges" -> {
                    merges = true;
                    parser.skipChildren();
                }
                default -> parser.skipChildren();
            }
        }
        if (!merges || vocabulary.isEmpty()) {
            throw new IllegalArgumentException(
                    "model has no " + (merges ? "vocab" : "merges") + "; supported are BPE models, which have both");
        }
    }

    private void vocabulary(JsonParser parser) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String token = parser.currentName();
            JsonToken value = parser.nextToken();
            demand(
                    value == JsonToken.VALUE_NUMBER_INT
                            && parser.getNumberType() == JsonParser.NumberType.INT
                            && parser.getIntValue() >= 0,
                    "id of token '" + TokenTable.shorten(token) + "'",
                    parser,
                    "an integer from 0 to 2147483647");
            vocabulary.put(token, parser.getIntValue());
        }
    }

    private static void demand(boolean holds, String what, JsonParser parser, String expected) throws IOException {
        if (!holds) {
            throw new IllegalArgumentException(
                    what + ": expected " + expected + ", found " + TokenTable.shorten(parser.getText()));
        }
    }

    private static void expect(JsonParser parser, @Nullable JsonToken found, JsonToken expected, String where) {
        if (found != expected) {
            throw new IllegalArgumentException(where + ": expected " + expected.asString() + " at character "
                    + parser.currentTokenLocation().getCharOffset() + ", found "
                    + (found == null ? "the end" : found));
        }
    }
}
