package org.qlora4j.lora.data;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.qlora4j.lora.text.RenderedChat;
import org.qlora4j.lora.text.jinja.Span;

/** Which parts of a conversation are learned; names as in ms-swift. A message's own {@code loss} field goes first. */
public enum LossScale {
    /** What the assistant wrote. */
    DEFAULT,
    /** What the assistant wrote after the last message of the user. */
    LAST_ROUND,
    /** Every token, the user's too. */
    ALL;

    /** The policy of a name. @throws IllegalArgumentException if there is none */
    public static LossScale of(String name) {
        for (LossScale scale : values()) {
            if (scale.name().toLowerCase(Locale.ROOT).equals(name)) {
                return scale;
            }
        }
        throw new IllegalArgumentException(
                "loss_scale '" + name + "' is not supported; supported: default, last_round, all");
    }

    /** The parts of the rendered text that are learned. */
    List<Span> spans(List<Example.Turn> turns, RenderedChat chat) {
        if (this == ALL) {
            return List.of(new Span(0, chat.text().length()));
        }
        int lastUser = -1;
        for (int i = 0; i < turns.size(); i++) {
            lastUser = turns.get(i).message().role().equals("user") ? i : lastUser;
        }
        List<Span> spans = new ArrayList<>();
        for (RenderedChat.Part part : chat.assistantParts()) {
            Boolean own = turns.get(part.message()).loss();
            if (own != null ? own : this == DEFAULT || part.message() > lastUser) {
                spans.add(part.span());
            }
        }
        return spans;
    }
}
