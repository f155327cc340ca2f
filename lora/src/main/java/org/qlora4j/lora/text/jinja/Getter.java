package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** jinja2's attribute getters: {@code 'a.b.0'} looks up members one after the other. */
final class Getter {
    private final Session session;
    private final List<Object> parts;
    private final Object otherwise;
    private final boolean ignoreCase;

    /**
     * Prepares a look-up.
     *
     * @param attribute dotted names, a number, or None for the item itself
     * @param otherwise for members that do not exist; None for undefined
     */
    Getter(Session session, Object attribute, Object otherwise, boolean ignoreCase) {
        this.session = session;
        this.parts = parts(session, attribute);
        this.otherwise = otherwise;
        this.ignoreCase = ignoreCase;
    }

    private static List<Object> parts(Session session, Object attribute) {
        if (attribute == None.NONE) {
            return List.of();
        }
        if (!(attribute instanceof Text text)) {
            return List.of(attribute);
        }
        List<Object> parts = new ArrayList<>();
        for (Object part : Splitting.by(session, text, Text.of("."), -1, false)) {
            String name = part.toString();
            boolean number =
                    !name.isEmpty() && name.length() < 10 && name.chars().allMatch(c -> c >= '0' && c <= '9');
            parts.add(number ? (Object) Long.valueOf(name) : part);
        }
        return parts;
    }

    Object get(Object item) {
        session.steps(1 + parts.size());
        Object value = item;
        for (Object part : parts) {
            value = Members.item(session, value, part);
            if (otherwise != None.NONE && value instanceof Undefined) {
                value = otherwise;
            }
        }
        return ignoreCase && value instanceof Text text ? text.transform(s -> s.toLowerCase(Locale.ROOT)) : value;
    }
}
