package org.qlora4j.lora.text.jinja;

import org.jspecify.annotations.Nullable;

/** A name or member that does not exist: prints as nothing, is false and empty, and fails at any other use. */
final class Undefined {
    private final @Nullable String hint;
    private final @Nullable Object owner;
    private final Object name;
    private final String errorType;

    private Undefined(@Nullable String hint, @Nullable Object owner, Object name, String errorType) {
        this.hint = hint;
        this.owner = owner;
        this.name = name;
        this.errorType = errorType;
    }

    static Undefined name(String name) {
        return new Undefined(null, null, Text.of(name), "UndefinedError");
    }

    static Undefined because(String hint) {
        return new Undefined(hint, null, Text.EMPTY, "UndefinedError");
    }

    static Undefined member(Object owner, Object name) {
        return new Undefined(null, owner, name, "UndefinedError");
    }

    static Undefined unsafe(Object owner, String attribute) {
        String hint = "access to attribute '" + attribute + "' of '" + Types.name(owner) + "' object is unsafe.";
        return new Undefined(hint, owner, Text.of(attribute), "SecurityError");
    }

    PyError error() {
        return new PyError(errorType, message());
    }

    private String message() {
        if (hint != null) {
            return hint;
        }
        if (owner == null) {
            return Repr.shortRepr(name) + " is undefined";
        }
        String type = owner == None.NONE ? "None" : Types.name(owner) + " object";
        return name instanceof Text
                ? "'" + type + "' has no attribute " + Repr.shortRepr(name)
                : type + " has no element " + Repr.shortRepr(name);
    }
}
