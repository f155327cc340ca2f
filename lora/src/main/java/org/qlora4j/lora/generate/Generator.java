package org.qlora4j.lora.generate;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.function.Consumer;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;

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
        try (Answer answer = new Answer(ids, model, text, sampling, ending, stream)) {
            boolean ends = false;
            while (!ends) {
                ends = answer.add(model.nextLogits(answer.next(), answer.cache()));
            }
            return answer.end();
        }
    }

    /** The answers to conversations, several at a time; see {@link #completeAll}. */
    public List<String> answerAll(List<List<Message>> conversations, Sampling sampling, Ending ending, int batchSize) {
        List<int[]> prompts = conversations.stream()
                .map(c -> text.tokenizer().encode(text.chatTemplate().render(c, true)))
                .toList();
        String[] answers = new String[prompts.size()];
        completeAll(prompts, sampling, ending, batchSize, (prompt, answer, tokens) -> answers[prompt] = answer);
        return List.of(answers);
    }

    /** Takes the answers of {@link #completeAll}. */
    @FunctionalInterface
    public interface Answers {
        /**
         * An answer is whole.
         *
         * @param prompt its number, from 0; answers need not end in the order of their prompts
         * @param tokens of the answer
         */
        void answered(int prompt, String answer, int tokens);
    }

    /**
     * What follows each of several prompts. A pass of the model takes one token of each answer in the making, or the
     * whole prompt of one that begins; when an answer ends, the next prompt takes its place. Every answer has random
     * numbers of its own, so it is the one that {@link #complete} gives, as far as the logits are the same:
     * {@link Transformer#nextLogits(List, List)} says where they differ in the last digits.
     *
     * @param batchSize answers in the making at a time, each with a key/value cache
     * @throws IllegalArgumentException before the first answer, if a prompt does not fit into the model's positions
     */
    public void completeAll(List<int[]> prompts, Sampling sampling, Ending ending, int batchSize, Answers answers) {
        if (batchSize < 1) {
            throw new IllegalArgumentException("max_batch_size must be at least 1, got " + batchSize);
        }
        cacheBytes(prompts, ending);
        List<Running> running = new ArrayList<>();
        int begun = 0;
        try {
            while (begun < prompts.size() || !running.isEmpty()) {
                for (; begun < prompts.size() && running.size() < batchSize; begun++) {
                    running.add(begin(begun, prompts.get(begun), sampling, ending));
                }
                float[][] logits = model.nextLogits(
                        running.stream().map(r -> r.answer.next()).toList(),
                        running.stream().map(r -> r.answer.cache()).toList());
                Iterator<Running> each = running.iterator();
                for (float[] row : logits) {
                    Running r = each.next();
                    if (r.answer.add(row)) {
                        each.remove();
                        r.answer.close();
                        answers.answered(r.prompt, r.answer.end(), r.answer.tokens());
                    }
                }
            }
        } finally {
            running.forEach(r -> r.answer.close());
        }
    }

    /**
     * What the key/value cache of each prompt and its answer takes of the device's memory.
     *
     * @throws IllegalArgumentException if a prompt does not fit into the model's positions
     */
    public long[] cacheBytes(List<int[]> prompts, Ending ending) {
        long[] bytes = new long[prompts.size()];
        for (int i = 0; i < bytes.length; i++) {
            String name = "prompt " + (i + 1) + " of " + bytes.length;
            bytes[i] = model.cacheBytes(Answer.capacity(prompts.get(i), name, model, ending));
        }
        return bytes;
    }

    private record Running(int prompt, Answer answer) {}

    @SuppressWarnings("MustBeClosedChecker") // completeAll closes it
    private Running begin(int prompt, int[] ids, Sampling sampling, Ending ending) {
        return new Running(prompt, new Answer(ids, model, text, sampling, ending, piece -> {}));
    }
}
