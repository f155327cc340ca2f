package org.qlora4j.lora.text.jinja;

/**
 * A half-open range {@code [start, end)} of a text, counted in Java {@code char}s, so that {@code text.substring(start,
 * end)} is what it covers.
 *
 * @param start first char
 * @param end one past the last char
 */
public record Span(int start, int end) {
    /**
     * Checks the order of the bounds.
     *
     * @throws IllegalArgumentException unless {@code 0 <= start <= end}
     */
    public Span {
        if (start < 0 || end < start) {
            throw new IllegalArgumentException("span must have 0 <= start <= end, got [" + start + ", " + end + ")");
        }
    }

    /** How many chars it covers. */
    public int length() {
        return end - start;
    }

    /** The part of {@code text} that it covers. */
    public String of(String text) {
        return text.substring(start, end);
    }

    /** The same range counted in Unicode code points, which is how Python and the tokenizers library count. */
    public Span toCodePoints(String text) {
        int first = text.codePointCount(0, start);
        return new Span(first, first + text.codePointCount(start, end));
    }
}
