package org.qlora4j.lora.text.jinja;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Filters of strings. */
final class TextFilters {
    private TextFilters() {}

    static Map<String, Filters.Filter> all() {
        Map<String, Filters.Filter> filters = new HashMap<>();
        filters.put("capitalize", (session, input, arguments) -> method(session, input, "capitalize", arguments));
        filters.put("lower", (session, input, arguments) -> method(session, input, "lower", arguments));
        filters.put("upper", (session, input, arguments) -> method(session, input, "upper", arguments));
        filters.put("trim", (session, input, arguments) -> method(session, input, "strip", arguments));
        filters.put("title", (session, input, arguments) -> {
            arguments.bind("title");
            return Repr.str(session, input).transform(TextFilters::title);
        });
        filters.put("center", (session, input, arguments) -> {
            long width = arguments.bind("center", "width?").integer(0, 80);
            return method(session, input, "center", Arguments.of(width));
        });
        filters.put("string", (session, input, arguments) -> Repr.softStr(session, input));
        filters.put(
                "safe", (session, input, arguments) -> Repr.str(session, input).withMarkup(true));
        filters.put("escape", (session, input, arguments) -> Markup.escape(session, input));
        filters.put("e", (session, input, arguments) -> Markup.escape(session, input));
        filters.put("forceescape", (session, input, arguments) -> Markup.force(session, Repr.str(session, input)));
        filters.put("replace", TextFilters::replace);
        filters.put("format", TextFilters::format);
        filters.put("indent", TextFilters::indent);
        filters.put("truncate", TextFilters::truncate);
        filters.put("urlencode", TextFilters::urlEncode);
        filters.put("tojson", Json::filter);
        filters.put(
                "wordcount",
                (session, input, arguments) ->
                        wordCount(Repr.str(session, input).value()));
        return filters;
    }

    private static Object method(Session session, Object input, String method, Arguments arguments) {
        return StringMethods.call(session, Repr.softStr(session, input), method, arguments);
    }

    /** jinja2's own idea of a word: it starts after a dash, a space or an opening bracket. */
    private static String title(String text) {
        StringBuilder out = new StringBuilder(text.length());
        boolean first = true;
        for (int codePoint : text.codePoints().toArray()) {
            boolean separator = "-({[<".indexOf(codePoint) >= 0 || Characters.isSpace(codePoint);
            String one = Character.toString(codePoint);
            out.append(separator ? one : first ? one.toUpperCase(Locale.ROOT) : one.toLowerCase(Locale.ROOT));
            first = separator;
        }
        return out.toString();
    }

    private static Object replace(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("replace", "old", "new", "count?");
        return StringMethods.replace(
                session,
                Repr.str(session, input),
                Repr.str(session, bound.get(0)),
                Repr.str(session, bound.get(1)),
                bound.isNone(2) ? -1 : bound.integer(2));
    }

    private static Object format(Session session, Object input, Arguments arguments) {
        Text format = Repr.softStr(session, input);
        if (arguments.keywords().isEmpty()) {
            return Printf.format(session, format, new TupleValue(arguments.positional()));
        }
        if (!arguments.positional().isEmpty()) {
            throw new PyError("FilterArgumentError", "can't handle positional and keyword arguments at the same time");
        }
        DictValue named = new DictValue();
        arguments.keywords().forEach((name, value) -> named.put(Text.of(name), value));
        return Printf.format(session, format, named);
    }

    private static Text asText(Object input, String filter) {
        if (input instanceof Undefined undefined) {
            throw undefined.error();
        }
        if (input instanceof Text text) {
            return text;
        }
        throw PyError.type("filter '" + filter + "' expects a string, got " + Types.name(input));
    }

    private static Object indent(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("indent", "width?", "first?", "blank?");
        Text text = asText(input, "indent");
        Text indention;
        if (bound.has(0) && bound.get(0) instanceof Text given) {
            indention = given;
        } else {
            indention = new TextBuilder(session)
                    .repeat(Text.of(" "), bound.integer(0, 4))
                    .toText();
        }
        boolean blank = bound.truth(2, false);
        // the line break that is added makes splitlines() keep an empty last line
        List<Object> lines = Splitting.lines(
                session, new TextBuilder(session).append(text).append("\n").toText(), false);
        TextBuilder out = new TextBuilder(session);
        for (int i = 0; i < lines.size(); i++) {
            Text line = (Text) lines.get(i);
            boolean indented = i == 0 ? bound.truth(1, false) : blank || !line.isEmpty();
            out.append(i == 0 ? "" : "\n")
                    .append(indented ? indention : Text.EMPTY)
                    .append(line);
        }
        return out.toText().withMarkup(text.markup());
    }

    private static Object truncate(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("truncate", "length?", "killwords?", "end?", "leeway?");
        Text end = bound.text(2, Text.of("..."));
        long length = bound.integer(0, 255);
        long leeway = bound.isNone(3) ? 5 : bound.integer(3);
        if (length < end.length()) {
            throw new PyError("AssertionError", "expected length >= " + end.length() + ", got " + length);
        }
        if (leeway < 0) {
            throw new PyError("AssertionError", "expected leeway >= 0, got " + leeway);
        }
        if (Types.length(input) <= (double) length + leeway) {
            return input;
        }
        Text text = asText(input, "truncate");
        Text kept = text.substring(0, text.offset((int) (length - end.length())));
        if (!bound.truth(1, false)) {
            int space = kept.value().lastIndexOf(' ');
            kept = space < 0 ? kept : kept.substring(0, space);
        }
        return new TextBuilder(session).append(kept).append(end).toText();
    }

    private static Object urlEncode(Session session, Object input, Arguments arguments) {
        arguments.bind("urlencode");
        if (input instanceof Text || !Types.isIterable(input)) {
            return quote(session, Repr.str(session, input), false);
        }
        Object pairs = input instanceof DictValue dict ? new DictView(dict, DictView.Kind.ITEMS) : input;
        TextBuilder out = new TextBuilder(session);
        for (Object pair : Types.list(session, pairs)) {
            List<Object> entry = new ArrayList<>(Types.list(session, pair));
            if (entry.size() != 2) {
                throw PyError.value("urlencode expects pairs, got " + entry.size() + " values");
            }
            out.append(out.length() == 0 ? "" : "&").append(quote(session, Repr.str(session, entry.get(0)), true));
            out.append("=").append(quote(session, Repr.str(session, entry.get(1)), true));
        }
        return out.toText();
    }

    private static Text quote(Session session, Text text, boolean query) {
        return text.withMarkup(false).mapCodePoints(session, codePoint -> {
            boolean letter = codePoint < 0x80 && Character.isLetterOrDigit(codePoint);
            if (letter || "_.-~".indexOf(codePoint) >= 0 || codePoint == '/' && !query) {
                return null;
            }
            if (query && codePoint == ' ') {
                return "+";
            }
            StringBuilder escaped = new StringBuilder();
            for (byte unit : Character.toString(codePoint).getBytes(StandardCharsets.UTF_8)) {
                escaped.append(String.format("%%%02X", unit));
            }
            return escaped.toString();
        });
    }

    private static long wordCount(String text) {
        long words = 0;
        boolean inWord = false;
        for (int codePoint : text.codePoints().toArray()) {
            boolean word = Characters.isWord(codePoint);
            words += word && !inWord ? 1 : 0;
            inWord = word;
        }
        return words;
    }
}
