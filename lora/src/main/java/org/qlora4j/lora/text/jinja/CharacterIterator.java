package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;

/** The code points of a text, one by one, with their tags; linear even if the text has many of them. */
final class CharacterIterator implements Iterator<Object> {
    private final Text text;
    private final List<Run> runs;
    private final List<Run> active = new ArrayList<>();
    private int nextRun;
    private int at;

    CharacterIterator(Text text) {
        this.text = text;
        this.runs = new ArrayList<>(text.runs());
        runs.sort(Comparator.comparingInt(Run::start));
    }

    @Override
    public boolean hasNext() {
        return at < text.size();
    }

    @Override
    public Text next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        int start = at;
        at = text.value().offsetByCodePoints(at, 1);
        active.removeIf(run -> run.end() <= start);
        while (nextRun < runs.size() && runs.get(nextRun).start() < at) {
            Run run = runs.get(nextRun++);
            if (run.end() > start) {
                active.add(run);
            }
        }
        List<Run> clipped = new ArrayList<>(active.size());
        for (Run run : active) {
            clipped.add(run.clipped(start, at));
        }
        return new Text(text.value().substring(start, at), clipped, false);
    }
}
