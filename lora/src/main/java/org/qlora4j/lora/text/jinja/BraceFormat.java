package org.qlora4j.lora.text.jinja;

import java.util.List;

/** {@code str.format}, with members looked up through the sandbox. */
final class BraceFormat {
    private static final int MAX_NESTING = 2;

    private final Session session;
    private final Arguments arguments;
    private final DictValue mapping;
    private int automatic;

    private BraceFormat(Session session, Arguments arguments, DictValue mapping) {
        this.session = session;
        this.arguments = arguments;
        this.mapping = mapping;
    }

    static Text format(Session session, Text format, Arguments arguments) {
        DictValue mapping = new DictValue();
        arguments.keywords().forEach((name, value) -> mapping.put(Text.of(name), value));
        return new BraceFormat(session, arguments, mapping)
                .expand(format, MAX_NESTING)
                .withMarkup(format.markup());
    }

    static Text formatMap(Session session, Text format, Object mapping) {
        if (!(mapping instanceof DictValue dict)) {
            throw PyError.type("format_map() argument must be a mapping, not " + Types.name(mapping));
        }
        return new BraceFormat(session, Arguments.of(), dict)
                .expand(format, MAX_NESTING)
                .withMarkup(format.markup());
    }

    private Text expand(Text format, int depth) {
        if (depth == 0) {
            throw PyError.value("Max string recursion exceeded");
        }
        String value = format.value();
        TextBuilder out = new TextBuilder(session);
        int at = 0;
        while (at < value.length()) {
            char c = value.charAt(at);
            session.steps(1 + (format.runs().size() >> 4));
            boolean doubled = at + 1 < value.length() && value.charAt(at + 1) == c;
            if (c != '{' && c != '}') {
                int next = at + 1;
                while (next < value.length() && value.charAt(next) != '{' && value.charAt(next) != '}') {
                    next++;
                }
                out.append(format.substring(at, next));
                at = next;
            } else if (doubled) {
                out.append(format.substring(at, at + 1));
                at += 2;
            } else if (c == '}') {
                throw PyError.value("Single '}' encountered in format string");
            } else {
                int end = closing(value, at);
                Text result = field(value.substring(at + 1, end), depth);
                out.append(format.markup() ? Markup.escape(session, result) : result);
                at = end + 1;
            }
        }
        return out.toText();
    }

    private static int closing(String value, int open) {
        int depth = 0;
        for (int i = open; i < value.length(); i++) {
            depth += value.charAt(i) == '{' ? 1 : value.charAt(i) == '}' ? -1 : 0;
            if (depth == 0) {
                return i;
            }
        }
        throw PyError.value("expected '}' before end of string");
    }

    private Text field(String field, int depth) {
        session.steps(1);
        int colon = nameEnd(field, ':');
        String spec = colon < field.length() ? field.substring(colon + 1) : "";
        String name = field.substring(0, colon);
        int exclamation = nameEnd(name, '!');
        String conversion = exclamation < name.length() ? name.substring(exclamation + 1) : "";
        Object value = value(name.substring(0, exclamation));
        value = switch (conversion) {
            case "" -> value;
            case "s" -> Repr.str(session, value);
            case "r" -> Repr.repr(session, value);
            case "a" -> Repr.repr(session, value);
            default -> throw PyError.value("Unknown conversion specifier " + conversion);
        };
        FormatSpec parsed = FormatSpec.parse(
                spec.indexOf('{') < 0 ? spec : expand(Text.of(spec), depth - 1).value());
        return value instanceof Text text && spec.isEmpty() ? text : parsed.format(session, value);
    }

    private static int nameEnd(String field, char stop) {
        int brackets = 0;
        for (int i = 0; i < field.length(); i++) {
            char c = field.charAt(i);
            brackets += c == '[' ? 1 : c == ']' ? -1 : 0;
            if (c == stop && brackets <= 0) {
                return i;
            }
        }
        return field.length();
    }

    private Object value(String name) {
        int end = 0;
        while (end < name.length() && name.charAt(end) != '.' && name.charAt(end) != '[') {
            end++;
        }
        Object value = first(name.substring(0, end));
        while (end < name.length()) {
            boolean attribute = name.charAt(end) == '.';
            int next = end + 1;
            while (next < name.length()
                    && (attribute ? name.charAt(next) != '.' && name.charAt(next) != '[' : name.charAt(next) != ']')) {
                next++;
            }
            String key = name.substring(end + 1, next);
            if (key.isEmpty() || !attribute && next == name.length()) {
                throw PyError.value("Empty attribute in format string");
            }
            value = attribute ? Members.attribute(value, key) : Members.item(session, value, key(key));
            end = attribute ? next : next + 1;
        }
        return value;
    }

    private static Object key(String text) {
        return text.length() < 10 && text.chars().allMatch(c -> c >= '0' && c <= '9')
                ? (Object) Long.valueOf(text)
                : Text.of(text);
    }

    private Object first(String name) {
        Object key = name.isEmpty() ? (Object) (long) automatic++ : key(name);
        if (key instanceof Long index) {
            List<Object> positional = arguments.positional();
            if (index >= positional.size()) {
                throw new PyError(
                        "IndexError", "Replacement index " + index + " out of range for positional args tuple");
            }
            return positional.get(index.intValue());
        }
        Object value = mapping.get(key);
        if (value == null) {
            throw new PyError("KeyError", Repr.shortRepr(key));
        }
        return value;
    }
}
