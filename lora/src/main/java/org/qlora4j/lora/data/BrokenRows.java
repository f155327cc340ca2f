package org.qlora4j.lora.data;

import java.util.ArrayList;
import java.util.List;

/** Rows that could not be used: counted, and the first ones described; or the first one ends the reading. */
public final class BrokenRows {
    private static final int SHOWN = 5;

    private final boolean strict;
    private final List<String> first = new ArrayList<>();
    private int count;

    /** @param strict whether the first broken row is an error */
    public BrokenRows(boolean strict) {
        this.strict = strict;
    }

    /**
     * Takes note of a row.
     *
     * @param where file and line
     * @throws IllegalArgumentException if strict
     */
    void add(String where, String why) {
        if (strict) {
            throw new IllegalArgumentException(where + ": " + why);
        }
        count++;
        if (first.size() < SHOWN) {
            first.add(where + ": " + why);
        }
    }

    /** One as strict, with nothing noted. */
    BrokenRows fresh() {
        return new BrokenRows(strict);
    }

    /**
     * Takes note of rows that were counted elsewhere.
     *
     * @throws IllegalArgumentException if strict and there are some
     */
    void addAll(int rows, List<String> descriptions) {
        if (strict && rows > 0) {
            throw new IllegalArgumentException(descriptions.isEmpty() ? "a row is broken" : descriptions.getFirst());
        }
        count += rows;
        descriptions.stream().limit(SHOWN - first.size()).forEach(first::add);
    }

    /** How many there were. */
    public int count() {
        return count;
    }

    /** The first ones: file, line and what is wrong. */
    public List<String> first() {
        return List.copyOf(first);
    }
}
