package org.qlora4j.lora.text;

import java.util.List;
import org.qlora4j.lora.text.jinja.Span;

/**
 * A rendered conversation.
 *
 * @param text what the model reads
 * @param assistantSpans the parts that an assistant wrote, each with the end of its turn, in order and without overlap
 * @param unlocated positions in the list of messages of assistant turns whose text the template shows in a way that
 *     cannot be followed; their tokens are in no span
 */
public record RenderedChat(String text, List<Span> assistantSpans, List<Integer> unlocated) {
    /** Copies the lists. */
    public RenderedChat {
        assistantSpans = List.copyOf(assistantSpans);
        unlocated = List.copyOf(unlocated);
    }
}
