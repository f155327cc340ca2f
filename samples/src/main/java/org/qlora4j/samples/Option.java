package org.qlora4j.samples;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.List;

/**
 * An option of the command line.
 *
 * @param name ms-swift's or Hugging Face's, without the dashes
 * @param fallback what holds when it is not given; empty if something else decides
 * @param description one line of the help
 */
record Option(String name, Kind kind, String fallback, String description) {
    /** Refuses words after the value. */
    static final ObjectMapper MAPPER = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    /** What values an option takes. */
    enum Kind {
        TEXT("a text", "VALUE", "1"),
        LIST("texts", "VALUE…", "0..*"),
        INTEGER("an integer", "N", "1"),
        NUMBER("a number", "X", "1"),
        BOOLEAN("true or false", "true|false", "0..1"),
        AMOUNT("true, false, auto or an integer", "true|false|auto|N", "0..1"),
        JSON("JSON", "JSON", "1..*");

        private final String words;
        /** Its place in the help. */
        final String label;
        /** How many words it takes. */
        final String arity;

        Kind(String words, String label, String arity) {
            this.words = words;
            this.label = label;
            this.arity = arity;
        }
    }

    /** @throws UserException if a value is not of this option's kind */
    void check(List<String> values) {
        String value = String.join(" ", values);
        try {
            switch (kind) {
                case TEXT, LIST -> {}
                case INTEGER -> Integer.parseInt(value);
                case NUMBER -> Double.parseDouble(value);
                case BOOLEAN -> {
                    if (!isBoolean(value)) {
                        throw new IllegalArgumentException();
                    }
                }
                case AMOUNT -> {
                    if (!isBoolean(value) && !value.equalsIgnoreCase("auto")) {
                        Integer.parseInt(value);
                    }
                }
                case JSON -> MAPPER.readTree(value);
            }
        } catch (IllegalArgumentException | JsonProcessingException e) {
            throw new UserException("--" + name + " must be " + kind.words + ", got '" + value + "'");
        }
    }

    static boolean isBoolean(String value) {
        return value.equalsIgnoreCase("true") || value.equalsIgnoreCase("false");
    }

    static Option text(String name, String fallback, String description) {
        return new Option(name, Kind.TEXT, fallback, description);
    }

    static Option list(String name, String fallback, String description) {
        return new Option(name, Kind.LIST, fallback, description);
    }

    static Option integer(String name, String fallback, String description) {
        return new Option(name, Kind.INTEGER, fallback, description);
    }

    static Option number(String name, String fallback, String description) {
        return new Option(name, Kind.NUMBER, fallback, description);
    }

    static Option bool(String name, String fallback, String description) {
        return new Option(name, Kind.BOOLEAN, fallback, description);
    }

    static Option amount(String name, String fallback, String description) {
        return new Option(name, Kind.AMOUNT, fallback, description);
    }

    static Option json(String name, String description) {
        return new Option(name, Kind.JSON, "", description);
    }
}
