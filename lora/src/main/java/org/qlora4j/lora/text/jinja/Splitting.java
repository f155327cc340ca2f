package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Cutting strings; the parts keep their tags. */
final class Splitting {
    private Splitting() {}

    /** @param limit how many cuts at most; negative for all */
    static List<Object> by(Session session, Text text, Text separator, long limit, boolean fromEnd) {
        if (separator.isEmpty()) {
            throw PyError.value("empty separator");
        }
        List<Object> parts = new ArrayList<>();
        String value = text.value();
        long left = limit < 0 ? Long.MAX_VALUE : limit;
        if (fromEnd) {
            int end = value.length();
            for (int at; left > 0; left--) {
                session.scan(end);
                at = end < separator.size() ? -1 : Search.lastIndexOf(value, separator.value(), end - separator.size());
                if (at < 0) {
                    break;
                }
                parts.add(part(session, text, at + separator.size(), end));
                end = at;
            }
            parts.add(part(session, text, 0, end));
            Collections.reverse(parts);
            return parts;
        }
        int start = 0;
        for (int at; left > 0; left--) {
            at = Search.indexOf(value, separator.value(), start);
            if (at < 0) {
                break;
            }
            parts.add(part(session, text, start, at));
            start = at + separator.size();
        }
        parts.add(part(session, text, start, value.length()));
        return parts;
    }

    private static Text part(Session session, Text text, int start, int end) {
        session.steps(1 + (text.runs().size() >> 4));
        session.allocate(8);
        return text.substring(start, end);
    }

    /** Cuts at runs of space and drops the empty parts; every space character is one char. */
    static List<Object> bySpace(Session session, Text text, long limit, boolean fromEnd) {
        List<Object> parts = new ArrayList<>();
        String value = text.value();
        long left = limit < 0 ? Long.MAX_VALUE : limit;
        int start = 0;
        int end = value.length();
        while (true) {
            if (fromEnd) {
                end = skip(value, end, true, true);
            } else {
                start = skip(value, start, true, false);
            }
            if (start >= end) {
                break;
            }
            int cut = left-- > 0 ? skip(value, fromEnd ? end : start, false, fromEnd) : fromEnd ? 0 : end;
            parts.add(fromEnd ? part(session, text, cut, end) : part(session, text, start, cut));
            if (fromEnd) {
                end = cut;
            } else {
                start = cut;
            }
        }
        if (fromEnd) {
            Collections.reverse(parts);
        }
        return parts;
    }

    private static int skip(String text, int from, boolean space, boolean backwards) {
        int at = from;
        if (backwards) {
            while (at > 0 && Characters.isSpace(text.charAt(at - 1)) == space) {
                at--;
            }
        } else {
            while (at < text.length() && Characters.isSpace(text.charAt(at)) == space) {
                at++;
            }
        }
        return at;
    }

    static List<Object> lines(Session session, Text text, boolean keepEnds) {
        List<Object> lines = new ArrayList<>();
        String value = text.value();
        int start = 0;
        for (int i = 0; i < value.length(); i++) {
            if (Characters.isLineBreak(value.charAt(i))) {
                int end = i;
                if (value.charAt(i) == '\r' && i + 1 < value.length() && value.charAt(i + 1) == '\n') {
                    i++;
                }
                lines.add(part(session, text, start, keepEnds ? i + 1 : end));
                start = i + 1;
            }
        }
        if (start < value.length()) {
            lines.add(part(session, text, start, value.length()));
        }
        return lines;
    }

    static TupleValue partition(Text text, Text separator, boolean last) {
        if (separator.isEmpty()) {
            throw PyError.value("empty separator");
        }
        int at = last
                ? Search.lastIndexOf(text.value(), separator.value(), text.size())
                : Search.indexOf(text.value(), separator.value(), 0);
        if (at < 0) {
            Text empty = text.substring(0, 0);
            return last ? TupleValue.of(empty, empty, text) : TupleValue.of(text, empty, empty);
        }
        int end = at + separator.size();
        return TupleValue.of(
                text.substring(0, at), separator.withMarkup(text.markup()), text.substring(end, text.size()));
    }
}
