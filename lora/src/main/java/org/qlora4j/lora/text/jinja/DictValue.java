package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A Python dict: insertion order, and 1, 1.0 and True are one key. Objects of the context know their {@link Source}.
 */
final class DictValue {
    private final Map<Object, Map.Entry<Object, Object>> entries = new LinkedHashMap<>();
    private final @Nullable Source source;

    DictValue() {
        this(null);
    }

    DictValue(@Nullable Source source) {
        this.source = source;
    }

    @Nullable
    Source source() {
        return source;
    }

    int size() {
        return entries.size();
    }

    @Nullable
    Object get(Object key) {
        Map.Entry<Object, Object> entry = entries.get(Numbers.key(key));
        return entry == null ? null : entry.getValue();
    }

    /** Looks up text that came from the template's own source. */
    @Nullable
    Object get(String key) {
        return get(Text.of(key));
    }

    void put(Object key, Object value) {
        Object hash = Numbers.key(key);
        Map.Entry<Object, Object> old = entries.get(hash);
        entries.put(hash, Map.entry(old == null ? key : old.getKey(), value));
    }

    void putAll(DictValue other) {
        for (Map.Entry<Object, Object> entry : other.entries()) {
            put(entry.getKey(), entry.getValue());
        }
    }

    Collection<Map.Entry<Object, Object>> entries() {
        return entries.values();
    }

    List<Object> keys() {
        List<Object> keys = new ArrayList<>(size());
        for (Map.Entry<Object, Object> entry : entries()) {
            keys.add(entry.getKey());
        }
        return keys;
    }
}
