package org.qlora4j.lora.text.jinja;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * {@code tojson} as transformers defines it: Python's json.dumps with {@code ensure_ascii=False} and no HTML escapes.
 * Strings keep their tags, so that the arguments of a tool call are found in the output.
 */
final class Json {
    private final Session session;
    private final TextBuilder out;
    private final boolean ascii;
    private final boolean sortKeys;
    private final @Nullable String indent;
    private final Text itemSeparator;
    private final Text keySeparator;

    private Json(
            Session session,
            boolean ascii,
            boolean sortKeys,
            @Nullable String indent,
            Text itemSeparator,
            Text keySeparator) {
        this.session = session;
        this.out = new TextBuilder(session);
        this.ascii = ascii;
        this.sortKeys = sortKeys;
        this.indent = indent;
        this.itemSeparator = itemSeparator;
        this.keySeparator = keySeparator;
    }

    static Text filter(Session session, Object value, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("tojson", "ensure_ascii?", "indent?", "separators?", "sort_keys?");
        String indent = null;
        if (!bound.isNone(1)) {
            indent = bound.get(1) instanceof Text text ? text.value() : spaces(session, bound.integer(1));
        }
        Text itemSeparator = Text.of(indent == null ? ", " : ",");
        Text keySeparator = Text.of(": ");
        if (!bound.isNone(2)) {
            List<Object> separators = Types.list(session, bound.get(2));
            if (separators.size() != 2
                    || !(separators.get(0) instanceof Text item)
                    || !(separators.get(1) instanceof Text key)) {
                throw PyError.value("tojson() separators must be two strings");
            }
            itemSeparator = item;
            keySeparator = key;
        }
        Json json =
                new Json(session, bound.truth(0, false), bound.truth(3, false), indent, itemSeparator, keySeparator);
        json.write(value, 0);
        return json.out.toText();
    }

    private static String spaces(Session session, long width) {
        session.string(width);
        return " ".repeat((int) Math.max(0, width));
    }

    private void write(Object value, int level) {
        session.steps(1);
        switch (value) {
            case Text text -> string(text);
            case ListValue list -> list(list.items(), level);
            case TupleValue tuple -> list(tuple.items(), level);
            case DictValue dict -> dict(dict, level);
            default -> {
                String scalar = scalar(value);
                if (scalar == null) {
                    throw PyError.type("Object of type " + Types.name(value) + " is not JSON serializable");
                }
                out.append(scalar);
            }
        }
    }

    private static @Nullable String scalar(Object value) {
        return switch (value) {
            case None ignored -> "null";
            case Boolean bool -> bool ? "true" : "false";
            case Long number -> number.toString();
            case BigInteger number -> number.toString();
            case Double number ->
                number.isNaN()
                        ? "NaN"
                        : number.isInfinite() ? number > 0 ? "Infinity" : "-Infinity" : FloatFormat.repr(number);
            default -> null;
        };
    }

    private void list(List<Object> items, int level) {
        if (items.isEmpty()) {
            out.append("[]");
            return;
        }
        session.enter();
        out.append("[");
        boolean first = true;
        for (Object item : items) {
            separate(first, level + 1);
            write(item, level + 1);
            first = false;
        }
        newline(level);
        out.append("]");
        session.leave();
    }

    private void dict(DictValue dict, int level) {
        if (dict.size() == 0) {
            out.append("{}");
            return;
        }
        session.enter();
        out.append("{");
        boolean first = true;
        for (Map.Entry<Object, Object> entry : ordered(dict)) {
            separate(first, level + 1);
            string(key(entry.getKey()));
            out.append(keySeparator);
            write(entry.getValue(), level + 1);
            first = false;
        }
        newline(level);
        out.append("}");
        session.leave();
    }

    private List<Map.Entry<Object, Object>> ordered(DictValue dict) {
        List<Map.Entry<Object, Object>> entries = new ArrayList<>(dict.entries());
        if (sortKeys) {
            List<Sorting.Keyed> keyed = new ArrayList<>();
            entries.forEach(entry -> keyed.add(new Sorting.Keyed(entry.getKey(), entry.getValue())));
            entries.clear();
            for (Sorting.Keyed sorted : Sorting.sorted(session, keyed, false)) {
                entries.add(Map.entry(sorted.key(), sorted.item()));
            }
        }
        return entries;
    }

    private static Text key(Object key) {
        if (key instanceof Text text) {
            return text;
        }
        String scalar = scalar(key);
        if (scalar == null) {
            throw PyError.type("keys must be str, int, float, bool or None, not " + Types.name(key));
        }
        return Text.of(scalar);
    }

    private void separate(boolean first, int level) {
        if (!first) {
            out.append(itemSeparator);
        }
        newline(level);
    }

    private void newline(int level) {
        if (indent != null) {
            out.append("\n").repeat(Text.of(indent), level);
        }
    }

    private void string(Text text) {
        out.append("\"");
        out.append(text.mapCodePoints(session, codePoint -> switch (codePoint) {
            case '"' -> "\\\"";
            case '\\' -> "\\\\";
            case '\n' -> "\\n";
            case '\r' -> "\\r";
            case '\t' -> "\\t";
            case '\f' -> "\\f";
            case '\b' -> "\\b";
            default -> codePoint < 0x20 || ascii && codePoint > 0x7e ? escape(codePoint) : null;
        }));
        out.append("\"");
    }

    private static String escape(int codePoint) {
        StringBuilder escaped = new StringBuilder();
        for (char unit : Character.toChars(codePoint)) {
            escaped.append(String.format("\\u%04x", (int) unit));
        }
        return escaped.toString();
    }
}
