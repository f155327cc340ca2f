package org.qlora4j.lora.text.jinja;

/**
 * A range of a {@link Text} with its tag. {@code tagStart} is the place in the tagged value, or -1 if only the origin
 * is known.
 */
record Run(int start, int end, Tag tag, int tagStart) {
    Run shifted(int by) {
        return by == 0 ? this : new Run(start + by, end + by, tag, tagStart);
    }

    /** The part within {@code [from, to)}, counted from {@code from}. */
    Run clipped(int from, int to) {
        int newStart = Math.max(start, from);
        int newEnd = Math.min(end, to);
        return new Run(newStart - from, newEnd - from, tag, tagStart < 0 ? -1 : tagStart + newStart - start);
    }

    boolean continuedBy(Run next) {
        return tag == next.tag
                && tag instanceof Source
                && end == next.start
                && (tagStart < 0 ? next.tagStart < 0 : next.tagStart == tagStart + end - start);
    }
}
