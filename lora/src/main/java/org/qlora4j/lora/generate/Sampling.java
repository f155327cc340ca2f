package org.qlora4j.lora.generate;

import java.util.Arrays;
import java.util.BitSet;
import java.util.SplittableRandom;

/**
 * How the next token is chosen.
 *
 * @param temperature 0 takes the likeliest token
 * @param topK only this many of the likeliest tokens; 0 for all
 * @param topP only the likeliest tokens whose probabilities reach this sum; 1 for all
 * @param repetitionPenalty what the logits of tokens that stand in prompt or answer already are divided by, negative
 *     ones multiplied; 1 for none (<a href="https://arxiv.org/abs/1909.05858">Keskar et al. 2019</a>)
 * @param seed of the random numbers
 */
public record Sampling(double temperature, int topK, double topP, double repetitionPenalty, long seed) {
    /** The likeliest token. */
    public static final Sampling GREEDY = new Sampling(0, 0, 1, 1, 0);

    public Sampling {
        if (!(temperature >= 0) || Double.isInfinite(temperature)) {
            throw new IllegalArgumentException("temperature must be 0 or more, got " + temperature);
        }
        if (topK < 0) {
            throw new IllegalArgumentException("top_k must be 0 (all) or more, got " + topK);
        }
        if (!(topP > 0 && topP <= 1)) {
            throw new IllegalArgumentException("top_p must be in (0, 1], got " + topP);
        }
        if (!(repetitionPenalty > 0) || Double.isInfinite(repetitionPenalty)) {
            throw new IllegalArgumentException("repetition_penalty must be positive, got " + repetitionPenalty);
        }
    }

    /**
     * Chooses a token.
     *
     * @param logits [V]; the penalty changes them
     * @param seen tokens of prompt and answer
     */
    int choose(float[] logits, BitSet seen, SplittableRandom random) {
        if (repetitionPenalty != 1) {
            seen.stream()
                    .forEach(i -> logits[i] *= (float) (logits[i] < 0 ? repetitionPenalty : 1 / repetitionPenalty));
        }
        int best = 0;
        for (int i = 1; i < logits.length; i++) {
            if (logits[i] > logits[best]) {
                best = i;
            }
        }
        if (temperature == 0 || topK == 1) {
            return best;
        }
        int count = topK == 0 ? logits.length : Math.min(topK, logits.length);
        int[] order = likeliest(logits, count);
        double[] p = new double[order.length];
        double sum = 0;
        for (int i = 0; i < order.length; i++) {
            p[i] = Math.exp((logits[order[i]] - logits[best]) / temperature);
            sum += p[i];
        }
        int kept = 0;
        double reached = 0;
        while (kept < p.length && (kept == 0 || reached < topP * sum)) {
            reached += p[kept++];
        }
        double at = random.nextDouble() * reached;
        for (int i = 0; i < kept; i++) {
            at -= p[i];
            if (at < 0) {
                return order[i];
            }
        }
        return order[kept - 1];
    }

    /** Token ids, likeliest first; of equal ones the lower id. */
    private static int[] likeliest(float[] logits, int count) {
        long[] keys = new long[logits.length];
        for (int i = 0; i < logits.length; i++) {
            int bits = Float.floatToIntBits(logits[i]);
            // signed like the float: of two negative floats the larger has the smaller bits
            int ordered = bits < 0 ? bits ^ Integer.MAX_VALUE : bits;
            keys[i] = (long) ~ordered << 32 | i;
        }
        Arrays.sort(keys);
        int[] ids = new int[count];
        for (int i = 0; i < count; i++) {
            ids[i] = (int) keys[i];
        }
        return ids;
    }
}
