package org.qlora4j.lora.generate;

import com.google.errorprone.annotations.MustBeClosed;
import java.util.Arrays;
import java.util.BitSet;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.qlora4j.lora.model.KvCache;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.StreamingDecoder;
import org.qlora4j.nf4.device.Scope;

/** One answer in the making. Its random numbers are its own, so that it does not depend on others made beside it. */
final class Answer implements AutoCloseable {
    private final ChatText text;
    private final Sampling sampling;
    private final int maxNewTokens;
    private final Scope scope;
    private final KvCache cache;
    private final SplittableRandom random;
    private final StreamingDecoder decoder;
    private final AnswerText answer;
    private final BitSet seen = new BitSet();
    private int[] next;
    private int tokens;

    /** @throws IllegalArgumentException if the prompt does not fit into the model's positions */
    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker") // closed with this
    Answer(int[] prompt, Transformer model, ChatText text, Sampling sampling, Ending ending, Consumer<String> stream) {
        this.text = text;
        this.sampling = sampling;
        this.maxNewTokens = ending.maxNewTokens();
        this.random = new SplittableRandom(sampling.seed());
        this.decoder = text.tokenizer().streamingDecoderSkippingSpecial();
        this.answer = new AnswerText(new StopWords(ending.stopWords()), stream);
        this.next = prompt;
        Arrays.stream(prompt).forEach(seen::set);
        this.scope = model.device().newScope();
        try {
            this.cache = model.newCache(capacity(prompt, "the prompt", model, ending), scope);
        } catch (RuntimeException | Error e) {
            scope.close();
            throw e;
        }
    }

    /** The most tokens of prompt and answer. @param name of the prompt, for the message */
    static int capacity(int[] prompt, String name, Transformer model, Ending ending) {
        int limit = model.config().maxPositionEmbeddings();
        if (prompt.length == 0 || prompt.length >= limit) {
            throw new IllegalArgumentException(name + " has " + prompt.length + " tokens, the model takes 1 to "
                    + (limit - 1) + "; shorten the conversation");
        }
        return (int) Math.min(limit, (long) prompt.length + ending.maxNewTokens());
    }

    KvCache cache() {
        return cache;
    }

    /** What the model has to read next. */
    int[] next() {
        return next;
    }

    /** Tokens chosen. */
    int tokens() {
        return tokens;
    }

    /** Chooses a token. @return whether the answer ends */
    boolean add(float[] logits) {
        int token = sampling.choose(logits, seen, random);
        tokens++;
        if (text.stopIds().contains(token) || answer.add(decoder.accept(token))) {
            return true;
        }
        seen.set(token);
        next = new int[] {token};
        return tokens == maxNewTokens || cache.length() == cache.capacity();
    }

    /** The whole answer. */
    String end() {
        answer.add(decoder.finish());
        return answer.end();
    }

    @Override
    public void close() {
        scope.close();
    }
}
