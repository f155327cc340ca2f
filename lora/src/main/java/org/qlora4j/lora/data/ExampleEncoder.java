package org.qlora4j.lora.data;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.ChatTemplate;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;
import org.qlora4j.lora.text.RenderedChat;

/** Makes token rows of examples, for one model. */
public final class ExampleEncoder {
    private final ChatText text;
    private final @Nullable ChatTemplate template;
    private final @Nullable String system;
    private final LossScale lossScale;
    private final int vocabSize;

    /**
     * An encoder.
     *
     * @param template null to refuse conversations
     * @param system a system turn for conversations that have none; null for none
     * @param vocabSize token ids must be below it
     */
    public ExampleEncoder(
            ChatText text,
            @Nullable ChatTemplate template,
            @Nullable String system,
            LossScale lossScale,
            int vocabSize) {
        this.text = text;
        this.template = template;
        this.system = system;
        this.lossScale = lossScale;
        this.vocabSize = vocabSize;
    }

    /**
     * The tokens of an example.
     *
     * @throws IllegalArgumentException if it cannot be used with this model; says why
     */
    public Batch.Row encode(Example example) {
        return switch (example) {
            case Example.Tokens tokens -> checked(tokens.row());
            case Example.Text plain -> plain(plain.text());
            case Example.Conversation conversation -> conversation(conversation);
        };
    }

    /** What decides about the tokens besides the example. */
    String settings() {
        return text.settings() + "\n" + system + "\n" + lossScale + "\n" + vocabSize;
    }

    private Batch.Row checked(Batch.Row row) {
        for (int i = 0; i < row.ids().length; i++) {
            int id = row.ids()[i];
            int label = row.labels()[i];
            if (id < 0 || id >= vocabSize) {
                throw new IllegalArgumentException(
                        "input_ids[" + i + "] is " + id + ", the vocabulary has " + vocabSize + " tokens");
            }
            if (label != Batch.IGNORED && (label < 0 || label >= vocabSize)) {
                throw new IllegalArgumentException(
                        "labels[" + i + "] is " + label + "; expected -100 or a token id below " + vocabSize);
            }
        }
        return row;
    }

    /** With what the tokenizer puts before a text, and the end of a text. */
    private Batch.Row plain(String content) {
        int[] ids = text.tokenizer().encodeWithSpecial(content);
        OptionalInt eos = text.eosId();
        if (eos.isPresent() && (ids.length == 0 || ids[ids.length - 1] != eos.getAsInt())) {
            ids = Arrays.copyOf(ids, ids.length + 1);
            ids[ids.length - 1] = eos.getAsInt();
        }
        return new Batch.Row(ids, ids.clone());
    }

    private Batch.Row conversation(Example.Conversation conversation) {
        ChatTemplate chat = template;
        if (chat == null) {
            throw new IllegalArgumentException(
                    "the model has no chat template; expected input_ids and labels, or text");
        }
        List<Example.Turn> turns = new ArrayList<>(conversation.turns());
        if (system != null && !turns.getFirst().message().role().equals("system")) {
            turns.addFirst(new Example.Turn(Message.system(system), null));
        }
        List<Message> messages = turns.stream().map(Example.Turn::message).toList();
        Map<String, Object> extra = conversation.extra();
        RenderedChat rendered = chat.training(messages, extra);
        return text.row(rendered.text(), lossScale.spans(turns, rendered));
    }
}
