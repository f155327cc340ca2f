package org.qlora4j.lora.text.jinja;

import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Variables that can be seen from a place: loops, macros and blocks open a scope of their own, {@code if} does not. */
final class Scope {
    private final @Nullable Scope outer;
    private final Map<String, Object> variables;

    private Scope(@Nullable Scope outer, Map<String, Object> variables) {
        this.outer = outer;
        this.variables = variables;
    }

    /** The outermost scope, above which are only the globals. */
    static Scope root(Map<String, Object> globals, Map<String, Object> context) {
        return new Scope(new Scope(null, globals), new HashMap<>(context));
    }

    Scope inner() {
        return new Scope(this, new HashMap<>(4));
    }

    /** The template's own scope. */
    Scope root() {
        Scope scope = this;
        for (Scope next = outer; next != null && next.outer != null; next = next.outer) {
            scope = next;
        }
        return scope;
    }

    void set(String name, Object value) {
        variables.put(name, value);
    }

    Object get(String name) {
        for (Scope scope = this; scope != null; scope = scope.outer) {
            Object value = scope.variables.get(name);
            if (value != null) {
                return value;
            }
        }
        return Undefined.name(name);
    }
}
