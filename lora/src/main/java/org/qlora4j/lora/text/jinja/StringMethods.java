package org.qlora4j.lora.text.jinja;

import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** The methods of str. */
final class StringMethods {
    private static final Set<String> NAMES = Set.of(
            "capitalize",
            "casefold",
            "center",
            "count",
            "endswith",
            "expandtabs",
            "find",
            "format",
            "format_map",
            "index",
            "isalnum",
            "isalpha",
            "isascii",
            "isdecimal",
            "isdigit",
            "isidentifier",
            "islower",
            "isnumeric",
            "isprintable",
            "isspace",
            "istitle",
            "isupper",
            "join",
            "ljust",
            "lower",
            "lstrip",
            "partition",
            "removeprefix",
            "removesuffix",
            "replace",
            "rfind",
            "rindex",
            "rjust",
            "rpartition",
            "rsplit",
            "rstrip",
            "split",
            "splitlines",
            "startswith",
            "strip",
            "swapcase",
            "title",
            "upper",
            "zfill");

    private StringMethods() {}

    static boolean exists(String name) {
        return NAMES.contains(name);
    }

    static Object call(Session session, Text text, String name, Arguments arguments) {
        session.scan(text);
        return switch (name) {
            case "strip", "lstrip", "rstrip" -> strip(text, name, arguments);
            case "split", "rsplit" -> {
                Arguments.Bound bound = arguments.bind(name, "sep?", "maxsplit?");
                long limit = bound.integer(1, -1);
                List<Object> parts = bound.isNone(0)
                        ? Splitting.bySpace(session, text, limit, name.equals("rsplit"))
                        : Splitting.by(session, text, bound.text(0), limit, name.equals("rsplit"));
                yield new ListValue(parts);
            }
            case "splitlines" ->
                new ListValue(Splitting.lines(
                        session, text, arguments.bind(name, "keepends?").truth(0, false)));
            case "partition", "rpartition" ->
                Splitting.partition(text, arguments.bind(name, "sep").text(0), name.equals("rpartition"));
            case "startswith", "endswith" -> affix(text, name, arguments);
            case "removeprefix" -> {
                Text prefix = arguments.bind(name, "prefix").text(0);
                yield text.value().startsWith(prefix.value()) ? text.substring(prefix.size(), text.size()) : text;
            }
            case "removesuffix" -> {
                Text suffix = arguments.bind(name, "suffix").text(0);
                boolean present = !suffix.isEmpty() && text.value().endsWith(suffix.value());
                yield present ? text.substring(0, text.size() - suffix.size()) : text;
            }
            case "find", "index", "rfind", "rindex", "count" -> search(text, name, arguments);
            case "replace" -> {
                Arguments.Bound bound = arguments.bind(name, "old", "new", "count?");
                Text replacement = text.markup() ? Markup.escape(session, bound.text(1)) : bound.text(1);
                yield replace(session, text, bound.text(0), replacement, bound.integer(2, -1));
            }
            case "join" -> join(session, text, arguments.bind(name, "iterable").get(0));
            case "upper" -> noArguments(name, arguments, text.transform(s -> s.toUpperCase(Locale.ROOT)));
            case "lower" -> noArguments(name, arguments, text.transform(s -> s.toLowerCase(Locale.ROOT)));
            case "casefold" ->
                noArguments(
                        name,
                        arguments,
                        text.transform(s ->
                                s.toLowerCase(Locale.ROOT).replace("ß", "ss").replace('ς', 'σ')));
            case "swapcase" -> noArguments(name, arguments, text.transform(Casing::swap));
            case "capitalize" -> noArguments(name, arguments, text.transform(Casing::capitalize));
            case "title" -> noArguments(name, arguments, text.transform(Casing::title));
            case "center", "ljust", "rjust" -> pad(session, text, name, arguments);
            case "zfill" ->
                zeroFill(session, text, arguments.bind(name, "width").integer(0));
            case "expandtabs" ->
                expandTabs(session, text, arguments.bind(name, "tabsize?").integer(0, 8));
            case "format" -> BraceFormat.format(session, text, arguments);
            case "format_map" -> {
                Object mapping = arguments.bind(name, "mapping").get(0);
                yield BraceFormat.formatMap(session, text, mapping);
            }
            default -> {
                arguments.bind(name);
                yield Casing.is(name, text.value());
            }
        };
    }

    private static Text noArguments(String name, Arguments arguments, Text result) {
        arguments.bind(name);
        return result;
    }

    private static Text strip(Text text, String name, Arguments arguments) {
        Arguments.Bound bound = arguments.bind(name, "chars?");
        return strip(text, bound.isNone(0) ? null : bound.text(0), !name.equals("rstrip"), !name.equals("lstrip"));
    }

    static Text strip(Text text, @Nullable Text chars, boolean left, boolean right) {
        Set<Integer> wanted = new HashSet<>();
        if (chars != null) {
            chars.value().codePoints().forEach(wanted::add);
        }
        String value = text.value();
        int start = 0;
        int end = value.length();
        while (left && start < end) {
            int codePoint = value.codePointAt(start);
            if (chars == null ? !Characters.isSpace(codePoint) : !wanted.contains(codePoint)) {
                break;
            }
            start += Character.charCount(codePoint);
        }
        while (right && end > start) {
            int codePoint = value.codePointBefore(end);
            if (chars == null ? !Characters.isSpace(codePoint) : !wanted.contains(codePoint)) {
                break;
            }
            end -= Character.charCount(codePoint);
        }
        return text.substring(start, end);
    }

    /** The part that optional start and end arguments choose, as {from, to, whether the start lies within the text}. */
    private static int[] window(Text text, Arguments.Bound bound) {
        int length = text.length();
        long from = bound.isNone(1) ? 0 : bound.integer(1);
        long to = bound.isNone(2) ? length : bound.integer(2);
        from = from < 0 ? Math.max(0, from + length) : from;
        to = to < 0 ? Math.max(0, to + length) : Math.min(to, length);
        if (from > length || from > to) {
            return new int[] {0, 0, 0};
        }
        return new int[] {text.offset((int) from), text.offset((int) to), 1};
    }

    private static boolean affix(Text text, String name, Arguments arguments) {
        Arguments.Bound bound = arguments.bind(name, "prefix", "start?", "end?");
        int[] window = window(text, bound);
        String part = text.value().substring(window[0], window[1]);
        List<Object> affixes = bound.get(0) instanceof TupleValue tuple ? tuple.items() : List.of(bound.get(0));
        for (Object affix : affixes) {
            if (!(affix instanceof Text wanted)) {
                throw PyError.type(name + " first arg must be str or a tuple of str, not " + Types.name(affix));
            }
            boolean found = name.equals("startswith") ? part.startsWith(wanted.value()) : part.endsWith(wanted.value());
            if (found && window[2] == 1) {
                return true;
            }
        }
        return false;
    }

    private static Object search(Text text, String name, Arguments arguments) {
        Arguments.Bound bound = arguments.bind(name, "sub", "start?", "end?");
        String wanted = bound.text(0).value();
        int[] window = window(text, bound);
        String part = text.value().substring(window[0], window[1]);
        if (name.equals("count")) {
            return window[2] == 0 ? 0L : count(part, wanted);
        }
        int found = name.startsWith("r")
                ? Search.lastIndexOf(part, wanted, part.length())
                : Search.indexOf(part, wanted, 0);
        if (window[2] == 0) {
            found = -1;
        }
        if (found < 0 && name.endsWith("index")) {
            throw PyError.value("substring not found");
        }
        return found < 0 ? -1L : (long) text.value().codePointCount(0, window[0] + found);
    }

    private static long count(String text, String wanted) {
        if (wanted.isEmpty()) {
            return text.codePointCount(0, text.length()) + 1L;
        }
        long count = 0;
        for (int at = Search.indexOf(text, wanted, 0);
                at >= 0;
                at = Search.indexOf(text, wanted, at + wanted.length())) {
            count++;
        }
        return count;
    }

    static Text replace(Session session, Text text, Text old, Text replacement, long limit) {
        TextBuilder out = new TextBuilder(session);
        int at = 0;
        long left = limit < 0 ? Long.MAX_VALUE : limit;
        // an empty string is found before every character and at the end
        int next = left == 0 ? -1 : Search.indexOf(text.value(), old.value(), 0);
        while (next >= 0 && left-- > 0) {
            session.steps(1 + (text.runs().size() >> 4));
            out.append(text.substring(at, next)).append(replacement);
            at = next + old.size();
            int from = at;
            if (old.isEmpty()) {
                from = next < text.size() ? text.value().offsetByCodePoints(next, 1) : text.size() + 1;
            }
            next = from > text.size() ? -1 : Search.indexOf(text.value(), old.value(), from);
        }
        return out.append(text.substring(Math.min(at, text.size()), text.size()))
                .toText()
                .withMarkup(text.markup());
    }

    static Text join(Session session, Text separator, Object iterable) {
        if (!Types.isIterable(iterable)) {
            throw PyError.type("can only join an iterable");
        }
        TextBuilder out = new TextBuilder(session);
        Iterator<Object> items = Types.iterator(iterable);
        for (int i = 0; items.hasNext(); i++) {
            session.steps(1);
            Object item = items.next();
            if (!(item instanceof Text part)) {
                throw PyError.type("sequence item " + i + ": expected str instance, " + Types.name(item) + " found");
            }
            out.append(i == 0 ? Text.EMPTY : separator)
                    .append(separator.markup() ? Markup.escape(session, part) : part);
        }
        return out.toText().withMarkup(separator.markup());
    }

    private static Text pad(Session session, Text text, String name, Arguments arguments) {
        Arguments.Bound bound = arguments.bind(name, "width", "fillchar?");
        Text fill = bound.text(1, Text.of(" "));
        if (fill.length() != 1) {
            throw PyError.type("The fill character must be exactly one character long");
        }
        long width = bound.integer(0);
        long missing = Math.max(0, width - text.length());
        long left = switch (name) {
            case "ljust" -> 0;
            case "rjust" -> missing;
            // CPython puts the odd one to the left if the width is odd
            default -> missing / 2 + (missing & width & 1);
        };
        TextBuilder out = new TextBuilder(session);
        out.repeat(fill, left).append(text);
        return out.repeat(fill, missing - left).toText().withMarkup(text.markup());
    }

    private static Text zeroFill(Session session, Text text, long width) {
        boolean signed = text.value().startsWith("-") || text.value().startsWith("+");
        int sign = signed ? 1 : 0;
        TextBuilder out = new TextBuilder(session);
        out.append(text.substring(0, sign)).repeat(Text.of("0"), Math.max(0, width - text.length()));
        return out.append(text.substring(sign, text.size())).toText().withMarkup(text.markup());
    }

    private static Text expandTabs(Session session, Text text, long tabSize) {
        TextBuilder out = new TextBuilder(session);
        long column = 0;
        for (CharacterIterator characters = new CharacterIterator(text); characters.hasNext(); ) {
            Text one = characters.next();
            if (one.value().equals("\t")) {
                long spaces = tabSize > 0 ? tabSize - column % tabSize : 0;
                out.repeat(Text.of(" "), spaces);
                column += spaces;
            } else {
                out.append(one);
                column = one.value().equals("\n") || one.value().equals("\r") ? 0 : column + 1;
            }
        }
        return out.toText().withMarkup(text.markup());
    }
}
