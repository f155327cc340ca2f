package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.function.IntFunction;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;

/** A Python string that knows where its characters came from. Equal if the characters are; the tags do not count. */
final class Text {
    static final Text EMPTY = new Text("", List.of(), false);

    private final String value;
    private final List<Run> runs;
    private final boolean markup;

    Text(String value, List<Run> runs, boolean markup) {
        this.value = value;
        this.runs = runs;
        this.markup = markup;
    }

    static Text of(String value) {
        return value.isEmpty() ? EMPTY : new Text(value, List.of(), false);
    }

    static Text tagged(String value, Tag tag) {
        return new Text(value, List.of(new Run(0, value.length(), tag, 0)), false);
    }

    String value() {
        return value;
    }

    List<Run> runs() {
        return runs;
    }

    /** Whether it is a markupsafe.Markup, which escapes what is added to it. */
    boolean markup() {
        return markup;
    }

    Text withMarkup(boolean wanted) {
        return wanted == markup ? this : new Text(value, runs, wanted);
    }

    /** Length in chars. */
    int size() {
        return value.length();
    }

    boolean isEmpty() {
        return value.isEmpty();
    }

    /** Length in code points, as Python counts. */
    int length() {
        return value.codePointCount(0, value.length());
    }

    /** The char at which code point {@code index} starts. */
    int offset(int index) {
        return value.offsetByCodePoints(0, index);
    }

    /** Part {@code [from, to)}, counted in chars. */
    Text substring(int from, int to) {
        if (from == 0 && to == value.length()) {
            return this;
        }
        if (runs.isEmpty()) {
            return new Text(value.substring(from, to), runs, markup);
        }
        List<Run> kept = new ArrayList<>();
        for (Run run : runs) {
            if (run.start() < to && run.end() > from) {
                kept.add(run.clipped(from, to));
            }
        }
        return new Text(value.substring(from, to), kept, markup);
    }

    /**
     * Applies a change of the whole string. Origins are kept piece by piece if the change of the pieces gives the same
     * text, or as a whole if there is only one origin; otherwise they are unknown.
     */
    Text transform(UnaryOperator<String> change) {
        String whole = change.apply(value);
        if (runs.isEmpty()) {
            return new Text(whole, runs, markup);
        }
        TreeSet<Integer> cuts = new TreeSet<>(List.of(0, value.length()));
        for (Run run : runs) {
            cuts.add(run.start());
            cuts.add(run.end());
        }
        StringBuilder joined = new StringBuilder();
        int[] moved = new int[value.length() + 1];
        int last = 0;
        for (int cut : cuts) {
            joined.append(change.apply(value.substring(last, cut)));
            moved[cut] = joined.length();
            last = cut;
        }
        if (joined.toString().equals(whole)) {
            return new Text(whole, moved(whole, moved), markup);
        }
        boolean oneOrigin = runs.size() == 1
                && runs.getFirst().start() == 0
                && runs.getFirst().end() == value.length();
        return new Text(
                whole,
                oneOrigin ? List.of(new Run(0, whole.length(), runs.getFirst().tag(), -1)) : List.of(),
                markup);
    }

    /** Replaces code points by strings where {@code change} gives one; origins are kept. */
    Text mapCodePoints(Session session, IntFunction<@Nullable String> change) {
        StringBuilder mapped = new StringBuilder(value.length());
        int[] moved = new int[value.length() + 1];
        boolean changed = false;
        int next;
        for (int at = 0; at < value.length(); at = next) {
            int codePoint = value.codePointAt(at);
            next = at + Character.charCount(codePoint);
            String replacement = change.apply(codePoint);
            if (replacement == null) {
                mapped.appendCodePoint(codePoint);
            } else {
                mapped.append(replacement);
                changed = true;
                session.string(mapped.length());
            }
            moved[next] = mapped.length();
        }
        return changed ? new Text(mapped.toString(), moved(mapped.toString(), moved), markup) : this;
    }

    private List<Run> moved(String newValue, int[] moved) {
        List<Run> result = new ArrayList<>(runs.size());
        for (Run run : runs) {
            int start = moved[run.start()];
            int end = moved[run.end()];
            boolean same = end - start == run.end() - run.start()
                    && newValue.regionMatches(start, value, run.start(), end - start);
            result.add(new Run(start, end, run.tag(), same ? run.tagStart() : -1));
        }
        return result;
    }

    /** By code points, as Python orders; {@link String#compareTo} orders surrogates before U+E000. */
    int compareTo(Text other) {
        int common = Math.min(value.length(), other.value.length());
        for (int i = 0; i < common; i++) {
            char a = value.charAt(i);
            char b = other.value.charAt(i);
            if (a != b) {
                boolean surrogateA = Character.isSurrogate(a);
                return surrogateA == Character.isSurrogate(b) ? a - b : surrogateA ? 1 : -1;
            }
        }
        return value.length() - other.value.length();
    }

    @Override
    public boolean equals(@Nullable Object other) {
        return other instanceof Text text && text.value.equals(value);
    }

    @Override
    public int hashCode() {
        return value.hashCode();
    }

    @Override
    public String toString() {
        return value;
    }
}
