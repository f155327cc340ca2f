package org.qlora4j.optim.train;

import java.util.List;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.TokenLosses;
import org.qlora4j.lora.model.Transformer;

/**
 * Means over label tokens, whatever rows they are in.
 *
 * @param loss mean cross-entropy
 * @param tokenAccuracy share of labels that were the model's first choice
 * @param labels number of label tokens
 */
public record Metrics(double loss, double tokenAccuracy, long labels) {
    /** {@code e^loss}. */
    public double perplexity() {
        return Math.exp(loss);
    }

    /** Of all rows, in passes of {@code batchSize} rows. */
    public static Metrics of(Transformer model, List<Batch.Row> rows, int batchSize) {
        double sum = 0;
        long correct = 0;
        long labels = 0;
        for (int i = 0; i < rows.size(); i += batchSize) {
            TokenLosses losses = model.evaluate(new Batch(rows.subList(i, Math.min(rows.size(), i + batchSize))));
            sum += losses.sum();
            correct += losses.correct();
            labels += losses.losses().length;
        }
        return new Metrics(sum / labels, (double) correct / labels, labels);
    }

    double byName(String metric) {
        return switch (metric) {
            case "loss" -> loss;
            case "ppl" -> perplexity();
            case "token_acc" -> tokenAccuracy;
            default -> throw new IllegalArgumentException("metric " + metric);
        };
    }
}
