package org.qlora4j.lora.adapter;

import java.util.List;

/**
 * How far a model's predictions are from another's.
 *
 * @param positions compared
 * @param largest difference of two logits, after taking off each position's mean (a shift changes no probability)
 * @param mean of the absolute differences
 * @param kl mean over positions of {@code Σ p·log(p/q)} in nats, p the reference's probabilities
 * @param sameChoice share of positions with the same likeliest token
 */
public record LogitDifference(int positions, double largest, double mean, double kl, double sameChoice) {
    /**
     * Compares logits.
     *
     * @param reference rows of {@code vocabSize} logits each
     * @param found as many
     */
    public static LogitDifference of(List<float[]> reference, List<float[]> found, int vocabSize) {
        double largest = 0;
        double sum = 0;
        double kl = 0;
        int same = 0;
        int positions = 0;
        for (int i = 0; i < reference.size(); i++) {
            float[] p = reference.get(i);
            float[] q = found.get(i);
            if (p.length != q.length || p.length % vocabSize != 0) {
                throw new IllegalArgumentException(
                        "expected as many logits, in rows of " + vocabSize + "; got " + p.length + " and " + q.length);
            }
            for (int row = 0; row < p.length; row += vocabSize) {
                double shift = mean(q, row, vocabSize) - mean(p, row, vocabSize);
                double logP = logSumExp(p, row, vocabSize);
                double logQ = logSumExp(q, row, vocabSize);
                int bestP = row;
                int bestQ = row;
                for (int k = row; k < row + vocabSize; k++) {
                    double difference = Math.abs(q[k] - p[k] - shift);
                    largest = Math.max(largest, difference);
                    sum += difference;
                    kl += Math.exp(p[k] - logP) * (p[k] - logP - (q[k] - logQ));
                    bestP = p[k] > p[bestP] ? k : bestP;
                    bestQ = q[k] > q[bestQ] ? k : bestQ;
                }
                same += bestP == bestQ ? 1 : 0;
                positions++;
            }
        }
        return new LogitDifference(
                positions, largest, sum / positions / vocabSize, kl / positions, (double) same / positions);
    }

    private static double mean(float[] logits, int from, int n) {
        double sum = 0;
        for (int i = from; i < from + n; i++) {
            sum += logits[i];
        }
        return sum / n;
    }

    private static double logSumExp(float[] logits, int from, int n) {
        double max = Double.NEGATIVE_INFINITY;
        for (int i = from; i < from + n; i++) {
            max = Math.max(max, logits[i]);
        }
        double sum = 0;
        for (int i = from; i < from + n; i++) {
            sum += Math.exp(logits[i] - max);
        }
        return max + Math.log(sum);
    }
}
