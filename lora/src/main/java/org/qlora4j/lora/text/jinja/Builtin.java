package org.qlora4j.lora.text.jinja;

/** A function written in Java: a global, or a method bound to its object. */
record Builtin(String name, Body body) implements Callable {
    /** What it does. */
    interface Body {
        Object call(Session session, Arguments arguments);
    }

    @Override
    public Object call(Session session, Arguments arguments) {
        return body.call(session, arguments);
    }
}
