package org.qlora4j.lora.text.jinja;

/** markupsafe's Markup: what {@code safe} and {@code escape} give, which escapes plain text that is added to it. */
final class Markup {
    private Markup() {}

    /** Escapes unless it is Markup already. */
    static Text escape(Session session, Object value) {
        if (value instanceof Text text && text.markup()) {
            return text;
        }
        return force(session, Repr.str(session, value));
    }

    static Text force(Session session, Text text) {
        return text.mapCodePoints(session, codePoint -> switch (codePoint) {
                    case '&' -> "&amp;";
                    case '<' -> "&lt;";
                    case '>' -> "&gt;";
                    case '\'' -> "&#39;";
                    case '"' -> "&#34;";
                    default -> null;
                })
                .withMarkup(true);
    }

    static Text concat(Session session, Text left, Text right) {
        boolean markup = left.markup() || right.markup();
        TextBuilder joined = new TextBuilder(session);
        joined.append(markup ? escape(session, left) : left);
        joined.append(markup ? escape(session, right) : right);
        return joined.toText().withMarkup(markup);
    }
}
