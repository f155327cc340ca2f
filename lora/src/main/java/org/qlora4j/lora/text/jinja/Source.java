package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Names one value of the context by the way to it, for example {@code messages[3].content}. */
public final class Source implements Tag {
    private final @Nullable Source parent;
    private final Object key;

    Source(@Nullable Source parent, Object key) {
        this.parent = parent;
        this.key = key;
    }

    /** The keys from the context to the value: names as {@code String}, positions in lists as {@code Integer}. */
    public List<Object> path() {
        List<Object> keys = new ArrayList<>();
        for (Source at = this; at != null; at = at.parent) {
            keys.add(at.key);
        }
        Collections.reverse(keys);
        return keys;
    }

    /** Whether the value is {@code name[index]} or lies in it. */
    public boolean isWithin(String name, int index) {
        List<Object> keys = path();
        return keys.size() >= 2 && keys.get(0).equals(name) && keys.get(1).equals(index);
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder();
        for (Object step : path()) {
            if (step instanceof Integer) {
                text.append('[').append(step).append(']');
            } else {
                text.append(text.isEmpty() ? "" : ".").append(step);
            }
        }
        return text.toString();
    }
}
