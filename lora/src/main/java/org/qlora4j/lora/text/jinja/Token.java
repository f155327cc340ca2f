package org.qlora4j.lora.text.jinja;

/**
 * One token of a template.
 *
 * @param value the text for names, strings, numbers' digits, operators and data
 */
record Token(Kind kind, String value, int line) {
    enum Kind {
        DATA,
        PRINT_BEGIN,
        PRINT_END,
        TAG_BEGIN,
        TAG_END,
        NAME,
        STRING,
        INTEGER,
        FLOAT,
        OPERATOR,
        END
    }

    boolean is(Kind wanted, String text) {
        return kind == wanted && value.equals(text);
    }

    /** For messages. */
    String describe() {
        return switch (kind) {
            case DATA -> "template text";
            case PRINT_BEGIN, TAG_BEGIN, PRINT_END, TAG_END, NAME, INTEGER, FLOAT, OPERATOR -> "'" + value + "'";
            case STRING -> "a string";
            case END -> "the end of the template";
        };
    }
}
