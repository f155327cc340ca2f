package org.qlora4j.optim.train;

import java.util.List;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.parallel.Communicator;

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
        return of(model, rows, batchSize, Communicator.SINGLE);
    }

    /** As above; the ranks share the passes, and all get the same numbers whatever their number. */
    static Metrics of(Transformer model, List<Batch.Row> rows, int batchSize, Communicator communicator) {
        Passes passes = new Passes((rows.size() + batchSize - 1) / batchSize, communicator.size());
        PassResults results = new PassResults(passes.count());
        for (int i = passes.from(communicator.rank()); i < passes.to(communicator.rank()); i++) {
            results.set(i, model.evaluate(batch(rows, batchSize, i)));
        }
        results.share(communicator, passes);
        long labels = 0;
        for (int i = 0; i < passes.count(); i++) {
            labels += batch(rows, batchSize, i).labelTokens();
        }
        return new Metrics(results.loss() / labels, (double) results.correct() / labels, labels);
    }

    private static Batch batch(List<Batch.Row> rows, int size, int number) {
        return new Batch(rows.subList(number * size, Math.min(rows.size(), (number + 1) * size)));
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
