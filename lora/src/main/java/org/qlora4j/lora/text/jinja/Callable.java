package org.qlora4j.lora.text.jinja;

/** Something that a template can call. */
interface Callable {
    /** For messages. */
    String name();

    Object call(Session session, Arguments arguments);
}
