package org.qlora4j.lora.text.jinja;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** What {@code cycler(a, b)} makes. */
final class Cycler {
    private final List<Object> items;
    private int at;

    Cycler(List<Object> items) {
        if (items.isEmpty()) {
            throw PyError.type("at least one item has to be provided");
        }
        this.items = items;
    }

    Object current() {
        return items.get(at);
    }

    Builtin.@Nullable Body method(String name) {
        return switch (name) {
            case "next" ->
                (session, arguments) -> {
                    Object item = current();
                    at = (at + 1) % items.size();
                    return item;
                };
            case "reset" ->
                (session, arguments) -> {
                    at = 0;
                    return None.NONE;
                };
            default -> null;
        };
    }
}
