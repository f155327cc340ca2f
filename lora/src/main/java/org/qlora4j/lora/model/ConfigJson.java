package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import java.util.function.Predicate;
import org.qlora4j.nf4.file.ModelFormatException;

/** Typed reading of one JSON object of config.json; messages name file and key. */
final class ConfigJson {
    private final Path file;
    private final JsonNode node;

    ConfigJson(Path file, JsonNode node) {
        this.file = file;
        this.node = node;
    }

    boolean isEmpty() {
        return node.isEmpty();
    }

    /** True if the key is there, with null too. */
    boolean names(String key) {
        return node.has(key);
    }

    /** True if the key has a value that is not null. */
    boolean has(String key) {
        JsonNode v = node.get(key);
        return v != null && !v.isNull();
    }

    /** The object under key, or an empty one. */
    ConfigJson object(String key) {
        JsonNode v = node.path(key);
        if (!v.isMissingNode() && !v.isNull() && !v.isObject()) {
            throw wrong(key, "an object", v);
        }
        return new ConfigJson(file, v);
    }

    int integer(String key) {
        JsonNode v = node.path(key);
        if (!v.isIntegralNumber() || !v.canConvertToInt()) {
            throw wrong(key, "an integer", v);
        }
        return v.intValue();
    }

    int integer(String key, int otherwise) {
        return has(key) ? integer(key) : otherwise;
    }

    double number(String key) {
        JsonNode v = node.path(key);
        if (!v.isNumber() || !Double.isFinite(v.doubleValue())) {
            throw wrong(key, "a number", v);
        }
        return v.doubleValue();
    }

    double number(String key, double otherwise) {
        return has(key) ? number(key) : otherwise;
    }

    boolean bool(String key, boolean otherwise) {
        JsonNode v = node.path(key);
        if (v.isMissingNode() || v.isNull()) {
            return otherwise;
        }
        if (!v.isBoolean()) {
            throw wrong(key, "true or false", v);
        }
        return v.booleanValue();
    }

    String text(String key, String otherwise) {
        JsonNode v = node.path(key);
        if (v.isMissingNode() || v.isNull()) {
            return otherwise;
        }
        if (!v.isTextual()) {
            throw wrong(key, "a string", v);
        }
        return v.textValue();
    }

    /** The elements of an array. */
    private <T> List<T> list(String key, String expected, Predicate<JsonNode> is, Function<JsonNode, T> read) {
        JsonNode v = node.path(key);
        List<T> values = new ArrayList<>();
        if (!v.isArray()) {
            throw wrong(key, "a list of " + expected, v);
        }
        for (JsonNode element : v) {
            if (!is.test(element)) {
                throw wrong(key, "a list of " + expected, v);
            }
            values.add(read.apply(element));
        }
        return values;
    }

    List<Double> numbers(String key) {
        return list(key, "numbers", v -> v.isNumber() && Double.isFinite(v.doubleValue()), JsonNode::doubleValue);
    }

    List<Integer> integers(String key) {
        return list(key, "integers", v -> v.isIntegralNumber() && v.canConvertToInt(), JsonNode::intValue);
    }

    List<String> texts(String key) {
        return list(key, "strings", JsonNode::isTextual, JsonNode::textValue);
    }

    ModelFormatException wrong(String key, String expected, JsonNode found) {
        String text = found.isMissingNode() ? "nothing" : found.toString();
        String shown = text.length() > 80 ? text.substring(0, 80) + "…" : text;
        return new ModelFormatException(file, "'" + key + "' must be " + expected + ", found " + shown);
    }

    Path file() {
        return file;
    }
}
