package org.qlora4j.lora.text.jinja;

import java.util.List;

/**
 * What a template wrote, and where each part came from.
 *
 * @param text the output
 * @param generationSpans what {@code {% generation %}} blocks wrote, in order; empty blocks give empty spans
 * @param pieces ranges whose origin in the context is known, ordered by start. A range without a piece is text of the
 *     template itself, a number, or text whose origin was lost by an operation that does not keep substrings
 * @param iterations what was written while a loop ran over objects of the context, ordered by start
 */
public record Rendered(String text, List<Span> generationSpans, List<Piece> pieces, List<Iteration> iterations) {
    /**
     * What one round of a loop wrote.
     *
     * @param span where it is in the output
     * @param item the object the loop variable held, for example {@code messages[3]}
     */
    public record Iteration(Span span, Source item) {}

    /** Copies the lists. */
    public Rendered {
        generationSpans = List.copyOf(generationSpans);
        pieces = List.copyOf(pieces);
        iterations = List.copyOf(iterations);
    }
}
