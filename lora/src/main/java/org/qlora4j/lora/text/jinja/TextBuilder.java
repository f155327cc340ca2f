package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.List;

/** Puts texts together within the limits of a session, and keeps their tags. */
final class TextBuilder {
    private final Session session;
    private final StringBuilder value = new StringBuilder();
    private final List<Run> runs = new ArrayList<>();

    TextBuilder(Session session) {
        this.session = session;
    }

    int length() {
        return value.length();
    }

    TextBuilder append(String text) {
        grow(text.length());
        value.append(text);
        return this;
    }

    TextBuilder append(Text text) {
        grow(text.size());
        session.allocate(4L * text.runs().size());
        int offset = value.length();
        value.append(text.value());
        for (Run run : text.runs()) {
            add(run.shifted(offset));
        }
        return this;
    }

    TextBuilder appendCodePoint(int codePoint) {
        grow(Character.charCount(codePoint));
        value.appendCodePoint(codePoint);
        return this;
    }

    TextBuilder repeat(Text text, long times) {
        session.string(Session.product(text.size(), times) + value.length());
        session.steps(text.isEmpty() ? 0 : times);
        for (long i = 0; i < times && !text.isEmpty(); i++) {
            append(text);
        }
        return this;
    }

    /** Tags what is between two places of the builder. */
    void mark(Tag tag, int start, int end) {
        runs.add(new Run(start, end, tag, -1));
    }

    Text toText() {
        return value.isEmpty() && runs.isEmpty() ? Text.EMPTY : new Text(value.toString(), List.copyOf(runs), false);
    }

    private void grow(long more) {
        session.string(value.length() + more);
        session.allocate(more);
    }

    private void add(Run run) {
        int last = runs.size() - 1;
        if (last >= 0 && runs.get(last).continuedBy(run)) {
            Run before = runs.get(last);
            runs.set(last, new Run(before.start(), run.end(), run.tag(), before.tagStart()));
        } else {
            runs.add(run);
        }
    }
}
