package org.qlora4j.lora.generate;

import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.qlora4j.lora.model.KvCache;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatTemplate;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;
import org.qlora4j.lora.text.StreamingDecoder;
import org.qlora4j.nf4.device.Scope;

/** Answers conversations. One thread at a time, the model's. */
public final class Generator {
    private final Transformer model;
    private final ChatText text;
    private final ChatTemplate template;

    public Generator(Transformer model, ChatText text) {
        this.model = model;
        this.text = text;
        this.template = text.chatTemplate();
    }

    /**
     * The answer to a conversation.
     *
     * @param messages ends with a user turn
     * @param maxNewTokens the answer ends here at the latest
     * @param stream takes the pieces of text as they become certain
     * @return the whole answer
     * @throws IllegalArgumentException if prompt and answer do not fit into the model's positions
     */
    public String answer(List<Message> messages, Sampling sampling, int maxNewTokens, Consumer<String> stream) {
        if (maxNewTokens < 1) {
            throw new IllegalArgumentException("max_new_tokens must be at least 1, got " + maxNewTokens);
        }
        int[] ids = text.tokenizer().encode(template.render(messages, true));
        int limit = model.config().maxPositionEmbeddings();
        if (ids.length >= limit) {
            throw new IllegalArgumentException("the prompt has " + ids.length + " tokens, the model takes " + limit
                    + "; shorten the conversation");
        }
        int capacity = (int) Math.min(limit, (long) ids.length + maxNewTokens);
        SplittableRandom random = new SplittableRandom(sampling.seed());
        StreamingDecoder decoder = text.tokenizer().streamingDecoderSkippingSpecial();
        StringBuilder answer = new StringBuilder();
        try (Scope scope = model.device().newScope()) {
            KvCache cache = model.newCache(capacity, scope);
            int[] next = ids;
            for (int i = 0; cache.length() + next.length <= capacity && i < maxNewTokens; i++) {
                int token = sampling.choose(model.nextLogits(next, cache), random);
                if (text.stopIds().contains(token)) {
                    break;
                }
                emit(decoder.accept(token), answer, stream);
                next = new int[] {token};
            }
        }
        emit(decoder.finish(), answer, stream);
        return answer.toString();
    }

    private static void emit(String piece, StringBuilder answer, Consumer<String> stream) {
        if (!piece.isEmpty()) {
            answer.append(piece);
            stream.accept(piece);
        }
    }
}
