package org.qlora4j.samples;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.qlora4j.lora.generate.Ending;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.generate.Sampling;
import org.qlora4j.nf4.device.Device;

/** How {@code infer} and {@code eval} answer: the options, and many prompts at a time by them. */
final class Answering {
    private final Sampling sampling;
    private final Ending ending;
    private final int batchSize;
    private final String maxMemory;

    /** @throws RuntimeException if an option is wrong, before anything slow happens */
    Answering(Arguments a) {
        sampling = new Sampling(
                a.number("temperature"),
                a.integer("top_k"),
                a.number("top_p"),
                a.number("repetition_penalty"),
                a.integer("seed"));
        ending = new Ending(a.integer("max_new_tokens"), a.list("stop_words"));
        batchSize = batchSize(a);
        maxMemory = a.text("max_memory");
    }

    /** @throws UserException if it is not at least 1 */
    static int batchSize(Arguments a) {
        int size = a.integer("max_batch_size");
        if (size < 1) {
            throw new UserException("--max_batch_size must be at least 1, got " + size);
        }
        return size;
    }

    Sampling sampling() {
        return sampling;
    }

    Ending ending() {
        return ending;
    }

    /**
     * Answers all prompts, with speed and time left on the terminal.
     *
     * @return what it was, in words
     */
    String all(List<int[]> prompts, Session session, Generator.Answers answers) {
        Generator generator = new Generator(session.model(), session.text());
        long start = System.nanoTime();
        long[] sums = new long[2];
        generator.completeAll(prompts, sampling, ending, batchSize, (prompt, answer, tokens) -> {
            answers.answered(prompt, answer, tokens);
            sums[0]++;
            sums[1] += tokens;
            double seconds = (System.nanoTime() - start) / 1e9;
            Progress.bar(
                    "answering",
                    (int) sums[0],
                    prompts.size(),
                    String.format(Locale.ROOT, ", %.1f tokens/s, ", sums[1] / seconds)
                            + Progress.time(seconds / sums[0] * (prompts.size() - sums[0])) + " left");
        });
        Progress.end();
        double seconds = (System.nanoTime() - start) / 1e9;
        return String.format(
                Locale.ROOT,
                "%d answers, %d tokens in %.1f s, %.1f tokens/s",
                prompts.size(),
                sums[1],
                seconds,
                sums[1] / seconds);
    }

    /**
     * Before the first answer; the longest prompts may come together.
     *
     * @throws UserException if the memory does not suffice for so many answers at a time
     */
    void requireRoom(List<int[]> prompts, Session session) {
        Generator generator = new Generator(session.model(), session.text());
        long[] bytes =
                Arrays.stream(generator.cacheBytes(prompts, ending)).sorted().toArray();
        Device device = session.model().device();
        long room = MemoryReport.left(device, maxMemory);
        long needed = 0;
        int fit = 0;
        int together = Math.min(batchSize, bytes.length);
        for (int i = 1; i <= together; i++) {
            needed += bytes[bytes.length - i];
            fit = needed <= room ? i : fit;
        }
        if (fit < together) {
            throw new UserException(String.format(
                    Locale.ROOT,
                    "keys and values of %d answers at a time need up to %.0f MB, there are %.0f MB left%s; what would"
                            + " help: %sa smaller --max_new_tokens than %d",
                    together,
                    needed / 1e6,
                    Math.max(0, room) / 1e6,
                    maxMemory.isEmpty() ? "" : " of --max_memory " + maxMemory,
                    fit == 0 ? "" : "--max_batch_size " + fit + ", or ",
                    ending.maxNewTokens()));
        }
    }
}
