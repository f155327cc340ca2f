package org.qlora4j.lora.text.jinja;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** A Python tuple. */
final class TupleValue {
    private final List<Object> items;
    private final boolean group;

    TupleValue(List<Object> items) {
        this(items, false);
    }

    private TupleValue(List<Object> items, boolean group) {
        this.items = items;
        this.group = group;
    }

    /** What groupby gives: a pair whose parts also have the names grouper and list. */
    static TupleValue group(Object grouper, ListValue list) {
        return new TupleValue(List.of(grouper, list), true);
    }

    /** The named part of a group, or null. */
    @Nullable
    Object part(String name) {
        return !group ? null : name.equals("grouper") ? items.get(0) : name.equals("list") ? items.get(1) : null;
    }

    static TupleValue of(Object... items) {
        return new TupleValue(List.of(items));
    }

    List<Object> items() {
        return items;
    }
}
