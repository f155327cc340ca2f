package org.qlora4j.lora.text.jinja;

/** An error in Python's terms; {@link Template} adds the line and turns it into a {@link TemplateException}. */
final class PyError extends RuntimeException {
    /** The type of errors made by raise_exception. */
    static final String RAISED = "TemplateError";

    private static final long serialVersionUID = 1L;

    private final String type;
    private final String reason;

    PyError(String type, String reason) {
        super(type + ": " + reason);
        this.type = type;
        this.reason = reason;
    }

    static PyError type(String reason) {
        return new PyError("TypeError", reason);
    }

    static PyError value(String reason) {
        return new PyError("ValueError", reason);
    }

    static PyError limit(String reason) {
        return new PyError("LimitError", reason);
    }

    String type() {
        return type;
    }

    String reason() {
        return reason;
    }
}
