package org.qlora4j.lora.generate;

import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.qlora4j.lora.model.KvCache;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;
import org.qlora4j.lora.text.StreamingDecoder;
import org.qlora4j.nf4.device.Scope;

/** Answers conversations. One thread at a time, the model's. */
public final class Generator {
    private final Transformer model;
    private final ChatText text;

    public Generator(Transformer model, ChatText text) {
        this.model = model;
        this.text = text;
    }

    /** The answer to a conversation, at most {@code maxNewTokens} long; see the other method. */
    public String answer(List<Message> messages, Sampling sampling, int maxNewTokens, Consumer<String> stream) {
        return answer(messages, sampling, new Ending(maxNewTokens, List.of()), stream);
    }

    /**
     * The answer to a conversation.
     *
     * @param messages ends with a user turn
     * @param stream takes the pieces of text as they become certain
     * @return the whole answer
     * @throws IllegalArgumentException if prompt and answer do not fit into the model's positions, or if the model has
     *     no chat template
     */
    public String answer(List<Message> messages, Sampling sampling, Ending ending, Consumer<String> stream) {
        return complete(text.tokenizer().encode(text.chatTemplate().render(messages, true)), sampling, ending, stream);
    }

    /** What follows some tokens; otherwise as {@link #answer}. */
    public String complete(int[] ids, Sampling sampling, Ending ending, Consumer<String> stream) {
        int limit = model.config().maxPositionEmbeddings();
        if (ids.length == 0 || ids.length >= limit) {
            throw new IllegalArgumentException("the prompt has " + ids.length + " tokens, the model takes 1 to "
                    + (limit - 1) + "; shorten the conversation");
        }
        int capacity = (int) Math.min(limit, (long) ids.length + ending.maxNewTokens());
        SplittableRandom random = new SplittableRandom(sampling.seed());
        StreamingDecoder decoder = text.tokenizer().streamingDecoderSkippingSpecial();
        Answer answer = new Answer(new StopWords(ending.stopWords()), stream);
        BitSet seen = new BitSet();
        Arrays.stream(ids).forEach(seen::set);
        try (Scope scope = model.device().newScope()) {
            KvCache cache = model.newCache(capacity, scope);
            int[] next = ids;
            for (int i = 0; cache.length() + next.length <= capacity && i < ending.maxNewTokens(); i++) {
                int token = sampling.choose(model.nextLogits(next, cache), seen, random);
                if (text.stopIds().contains(token) || answer.add(decoder.accept(token))) {
                    break;
                }
                seen.set(token);
                next = new int[] {token};
            }
        }
        answer.add(decoder.finish());
        return answer.end();
    }

    /** The text so far, and how much of it has been shown. */
    private static final class Answer {
        private final StopWords stopWords;
        private final Consumer<String> stream;
        private final StringBuilder text = new StringBuilder();
        private int shown;
        private boolean stopped;

        Answer(StopWords stopWords, Consumer<String> stream) {
            this.stopWords = stopWords;
            this.stream = stream;
        }

        /** @return whether a stop word ends the answer */
        boolean add(String piece) {
            if (!stopped && !piece.isEmpty()) {
                text.append(piece);
                int stop = stopWords.find(text, shown);
                stopped = stop >= 0;
                text.setLength(stopped ? stop : text.length());
                show(stopped ? stop : stopWords.certain(text));
            }
            return stopped;
        }

        private void show(int to) {
            if (to > shown) {
                stream.accept(text.substring(shown, to));
                shown = to;
            }
        }

        String end() {
            show(text.length());
            return text.toString();
        }
    }
}
