package org.qlora4j.lora.text.jinja;

import java.util.List;

/** A Python list. Templates cannot change it: the sandbox refuses append and its like. */
final class ListValue {
    private final List<Object> items;

    ListValue(List<Object> items) {
        this.items = items;
    }

    List<Object> items() {
        return items;
    }
}
