package org.qlora4j.lora.data;

import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.Message;

/** What a row of a data set says. */
public sealed interface Example {
    /** Token ids and labels, taken as they are. */
    record Tokens(Batch.Row row) implements Example {}

    /** Plain text: every token is learned, and that the text ends. */
    record Text(String text) implements Example {}

    /**
     * A conversation.
     *
     * @param turns its messages, at least one of an assistant
     * @param extra further variables of the chat template, for example {@code tools}
     */
    record Conversation(List<Turn> turns, Map<String, Object> extra) implements Example {
        /** Copies the lists. */
        public Conversation {
            turns = List.copyOf(turns);
            extra = Map.copyOf(extra);
        }

        /** The messages without what is learned of them. */
        public List<Message> messages() {
            return turns.stream().map(Turn::message).toList();
        }
    }

    /**
     * One message.
     *
     * @param loss whether it is learned; null where {@link LossScale} decides
     */
    record Turn(Message message, @Nullable Boolean loss) {
        boolean isAssistant() {
            return message.role().equals("assistant");
        }
    }
}
