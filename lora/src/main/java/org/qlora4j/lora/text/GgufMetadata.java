package org.qlora4j.lora.text;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.file.ModelFormatException;

/** Typed access to the metadata of a GGUF file. */
record GgufMetadata(Path file, Map<String, Object> values) {
    Optional<String> text(String key) {
        return value(key, String.class);
    }

    Optional<Boolean> bool(String key) {
        return value(key, Boolean.class);
    }

    Optional<Long> integer(String key) {
        return value(key, Long.class);
    }

    /** The array of {@code key}, all elements of one class; a missing one is an error. */
    <T> List<T> array(String key, Class<T> type) {
        List<?> list = value(key, List.class)
                .orElseThrow(() -> error("has no metadata '" + key + "', which a tokenizer needs"));
        for (Object element : list) {
            if (!type.isInstance(element)) {
                throw error("metadata '" + key + "': expected " + type.getSimpleName() + " elements, found "
                        + name(element));
            }
        }
        @SuppressWarnings("unchecked") // each element was checked above
        List<T> typed = (List<T>) list;
        return typed;
    }

    boolean has(String key) {
        return values.containsKey(key);
    }

    ModelFormatException error(String what) {
        return new ModelFormatException(file, what);
    }

    private <T> Optional<T> value(String key, Class<T> type) {
        Object value = values.get(key);
        if (value != null && !type.isInstance(value)) {
            throw error("metadata '" + key + "': expected " + type.getSimpleName() + ", found " + name(value));
        }
        return Optional.ofNullable(value).map(type::cast);
    }

    private static String name(@Nullable Object value) {
        return value == null ? "nothing" : value.getClass().getSimpleName();
    }
}
