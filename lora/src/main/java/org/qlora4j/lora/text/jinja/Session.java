package org.qlora4j.lora.text.jinja;

import java.time.Clock;

/** One rendering: what it may still use, the clock it sees and the line it is at. */
final class Session {
    /** More than any limit may be, and far from overflow. */
    private static final long HUGE = 1L << 60;

    private final Limits limits;
    private final Clock clock;
    private long steps;
    private long allocated;
    private int depth;
    private int line = 1;

    Session(Limits limits, Clock clock) {
        this.limits = limits;
        this.clock = clock;
    }

    Clock clock() {
        return clock;
    }

    int line() {
        return line;
    }

    void at(int newLine) {
        line = newLine;
        steps(1);
    }

    void steps(long count) {
        steps += Math.min(count, HUGE);
        if (steps > limits.maxSteps()) {
            throw PyError.limit("more than " + limits.maxSteps() + " steps; does the template loop without end?");
        }
    }

    /** Work that runs through {@code chars} characters; 64 of them are about as long as one node. */
    void scan(long chars) {
        steps(1 + (chars >> 6));
    }

    /** Work that runs through a text and its tags. */
    void scan(Text text) {
        steps(1 + (text.size() >> 6) + (text.runs().size() >> 4));
    }

    /** To be asked before a string of this length is made. */
    void string(long length) {
        if (length > limits.maxOutput()) {
            throw PyError.limit("a string of " + length + " chars; at most " + limits.maxOutput() + " are allowed");
        }
    }

    /** To be told of chars that are being made. */
    void allocate(long chars) {
        allocated += Math.min(chars, HUGE);
        if (allocated > limits.maxAllocated()) {
            throw PyError.limit("more than " + limits.maxAllocated() + " chars made in all");
        }
    }

    /** To be asked before a list of this size is made. */
    void list(long size) {
        string(size);
        allocate(size * 8);
        steps(size >> 3);
    }

    /** Counts what an operation gave back. */
    <T> T made(T value) {
        switch (value) {
            case Text text -> allocate(text.size() + 4L * text.runs().size());
            case ListValue list -> list(list.items().size());
            case TupleValue tuple -> list(tuple.items().size());
            default -> allocate(1);
        }
        return value;
    }

    /** How much {@code times} pieces of a size are; no more than {@link #HUGE} if they are many. */
    static long product(int size, long times) {
        return times > HUGE / Math.max(1, size) ? HUGE : size * times;
    }

    void enter() {
        if (++depth > limits.maxDepth()) {
            throw PyError.limit("nested deeper than " + limits.maxDepth());
        }
    }

    void leave() {
        depth--;
    }
}
