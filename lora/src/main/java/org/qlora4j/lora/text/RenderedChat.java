package org.qlora4j.lora.text;

import java.util.List;
import org.qlora4j.lora.text.jinja.Span;

/**
 * A rendered conversation.
 *
 * @param text what the model reads
 * @param assistantParts what an assistant wrote, each with the end of its turn, in order and without overlap
 * @param unlocated positions in the list of messages of assistant turns whose text the template shows in a way that
 *     cannot be followed; their tokens are in no part
 */
public record RenderedChat(String text, List<Part> assistantParts, List<Integer> unlocated) {
    /**
     * A part of the text.
     *
     * @param message position in the list of messages of the one that wrote it
     * @param span where it is
     */
    public record Part(int message, Span span) {}

    /** Copies the lists. */
    public RenderedChat {
        assistantParts = List.copyOf(assistantParts);
        unlocated = List.copyOf(unlocated);
    }

    /** Where the assistant's parts are. */
    public List<Span> assistantSpans() {
        return assistantParts.stream().map(Part::span).toList();
    }
}
