package org.qlora4j.nf4.file;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * JSON of safetensors headers and indexes, read token by token so that depth and size of what is not expected cost
 * nothing. Duplicate names and invalid UTF-8 are errors: two readers could otherwise see two different models in one
 * file.
 */
final class StrictJson {
    private static final JsonFactory JSON = JsonFactory.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .build();

    private StrictJson() {}

    static JsonParser parser(byte[] utf8) throws IOException {
        // a Reader, because Jackson would otherwise guess UTF-16 or UTF-32 from the first bytes
        return JSON.createParser(new InputStreamReader(
                new ByteArrayInputStream(utf8),
                StandardCharsets.UTF_8
                        .newDecoder()
                        .onMalformedInput(CodingErrorAction.REPORT)
                        .onUnmappableCharacter(CodingErrorAction.REPORT)));
    }

    static void expect(Path file, JsonParser parser, @Nullable JsonToken found, JsonToken expected, String where) {
        if (found != expected) {
            throw new ModelFormatException(
                    file,
                    where + ": expected " + describe(expected) + ", found " + describe(found) + " at character "
                            + parser.currentTokenLocation().getCharOffset());
        }
    }

    static void expectEnd(Path file, JsonParser parser, String where) throws IOException {
        JsonToken more = parser.nextToken();
        if (more != null) {
            throw new ModelFormatException(file, where + ": unexpected " + describe(more) + " after the JSON object");
        }
    }

    /** Reads a JSON object whose values are all strings; {@code start} is the token the parser stands on. */
    static Map<String, String> stringMap(Path file, JsonParser parser, JsonToken start, String where)
            throws IOException {
        expect(file, parser, start, JsonToken.START_OBJECT, where);
        Map<String, String> map = new LinkedHashMap<>();
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String key = parser.currentName();
            expect(file, parser, parser.nextToken(), JsonToken.VALUE_STRING, where + "['" + key + "']");
            map.put(key, parser.getText());
        }
        return map;
    }

    static ModelFormatException invalid(Path file, String where, IOException e) {
        String reason = e instanceof JsonProcessingException json ? json.getOriginalMessage() : e.toString();
        return new ModelFormatException(file, where + " is not valid JSON: " + reason, e);
    }

    private static String describe(@Nullable JsonToken token) {
        if (token == null) {
            return "the end";
        }
        return switch (token) {
            case START_OBJECT -> "an object";
            case START_ARRAY -> "an array";
            case VALUE_STRING -> "a string";
            case VALUE_NUMBER_INT -> "an integer";
            default -> token.name();
        };
    }
}
