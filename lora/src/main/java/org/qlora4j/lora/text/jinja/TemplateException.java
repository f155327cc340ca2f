package org.qlora4j.lora.text.jinja;

import org.jspecify.annotations.Nullable;

/**
 * A template could not be read or rendered. The message says the line, the kind of error in Python's words and the
 * reason.
 */
public final class TemplateException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final String type;
    private final String reason;
    private final int line;

    TemplateException(String type, String reason, int line, @Nullable Throwable cause) {
        super("chat template, line " + line + ": " + type + ": " + reason, cause);
        this.type = type;
        this.reason = reason;
        this.line = line;
    }

    /**
     * The name that Python gives the error, for example {@code UndefinedError}; {@code LimitError} for our own
     * {@link Limits}.
     */
    public String type() {
        return type;
    }

    /** The reason alone; the text given to {@code raise_exception} if the template raised the error. */
    public String reason() {
        return reason;
    }

    /** The line of the template, counted from 1. */
    public int line() {
        return line;
    }

    /** Whether the template itself refused the input by {@code raise_exception}. */
    public boolean raisedByTemplate() {
        return type.equals(PyError.RAISED);
    }
}
