package org.qlora4j.lora.text.jinja;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Turns Java values into those of the template; strings and objects remember where they were. */
final class ContextValues {
    private static final int MAX_DEPTH = 200;

    private ContextValues() {}

    static Map<String, Object> of(Map<String, ? extends @Nullable Object> context) {
        Map<String, Object> values = new HashMap<>();
        for (Map.Entry<String, ? extends @Nullable Object> entry : context.entrySet()) {
            values.put(entry.getKey(), value(entry.getValue(), new Source(null, entry.getKey()), 0));
        }
        return values;
    }

    private static Object value(@Nullable Object value, Source source, int depth) {
        if (depth > MAX_DEPTH) {
            throw new IllegalArgumentException("context value " + source + " is nested deeper than " + MAX_DEPTH);
        }
        return switch (value) {
            case null -> None.NONE;
            case String text -> Text.tagged(text, source);
            case Boolean bool -> bool;
            case Double number -> number;
            case Float number -> Double.valueOf(number);
            case BigDecimal number -> number.doubleValue();
            case BigInteger number -> Numbers.norm(number);
            case Number number -> number.longValue();
            case Map<?, ?> map -> dict(map, source, depth);
            case Iterable<?> items -> {
                List<Object> list = new ArrayList<>();
                for (Object item : items) {
                    list.add(value(item, new Source(source, list.size()), depth + 1));
                }
                yield new ListValue(list);
            }
            default ->
                throw new IllegalArgumentException("context value " + source + " has type "
                        + value.getClass().getName() + "; expected String, Number, Boolean, Map, Iterable or null");
        };
    }

    private static DictValue dict(Map<?, ?> map, Source source, int depth) {
        DictValue dict = new DictValue(source);
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            Object key = entry.getKey();
            if (!(key instanceof String name)) {
                throw new IllegalArgumentException(
                        "keys of context value " + source + " must be strings, found " + key);
            }
            dict.put(Text.of(name), value(entry.getValue(), new Source(source, name), depth + 1));
        }
        return dict;
    }
}
