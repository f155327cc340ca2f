package org.qlora4j.optim.train;

import java.util.ArrayList;
import java.util.List;
import java.util.function.BooleanSupplier;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.TrainingPass;
import org.qlora4j.nf4.device.Dropout;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.optim.Optimizer;

/**
 * One optimizer step: forward and backward of its passes, divided among the ranks, then the same update on each rank. A
 * function of its number and the weights.
 */
final class Step {
    private final LoraAdapter adapter;
    private final Optimizer optimizer;
    private final TrainingConfig config;
    private final DataOrder order;
    private final List<List<Batch.Row>> packs;
    private final Communicator communicator;
    private final GradientSum gradients;

    Step(
            LoraAdapter adapter,
            Optimizer optimizer,
            TrainingConfig config,
            DataOrder order,
            List<List<Batch.Row>> packs,
            Communicator communicator,
            GradientSum gradients) {
        this.adapter = adapter;
        this.optimizer = optimizer;
        this.config = config;
        this.order = order;
        this.packs = packs;
        this.communicator = communicator;
        this.gradients = gradients;
    }

    /** How a step ended. */
    sealed interface Outcome {}

    /** @param loss mean over the label tokens @param norm of the gradients, before clipping */
    record Done(double loss, long labels, long correct, long tokens, double norm) implements Outcome {}

    /** Nothing has changed, because a number was not finite. @param what names step, row and layer */
    record NotFinite(String what) implements Outcome {}

    /** Nothing has changed, because it was asked to stop between two passes. */
    record CutShort() implements Outcome {}

    /** A row of the training data. @param number its pack's, from 0 */
    record NumberedRow(int number, Batch.Row row) {}

    /** @param step from 0: steps done before it */
    Outcome run(int step, double learningRate, BooleanSupplier stopping) {
        List<int[]> passes = order.passes(step);
        List<Batch> batches = passes.stream().map(this::batch).toList();
        long labels = batches.stream().mapToLong(Batch::labelTokens).sum();
        Passes shared = new Passes(batches.size(), communicator.size());
        PassResults results = new PassResults(batches.size());
        gradients.start();
        int to = shared.to(communicator.rank());
        for (int i = shared.from(communicator.rank()); i < to; i++) {
            if (stopping.getAsBoolean()) {
                results.cutShort();
                break;
            }
            results.set(i, adapter.model().gradients(batches.get(i), pass(step, i, labels)));
            gradients.add(i, i == to - 1);
        }
        results.share(communicator, shared);
        if (results.isCutShort()) {
            return new CutShort();
        }
        double sum = results.loss();
        double norm = Double.NaN;
        if (Double.isFinite(sum)) {
            gradients.finish(shared);
            norm = optimizer.gradientNorm();
        }
        if (!Double.isFinite(norm)) {
            List<NumberedRow> rows =
                    passes.stream().flatMap(pass -> rows(pass).stream()).toList();
            return new NotFinite(
                    "step " + (step + 1) + ": " + NotFiniteSearch.explain(adapter, rows, pass(step, 0, labels)));
        }
        optimizer.step(learningRate, norm);
        long tokens = batches.stream().mapToLong(Batch::tokens).sum();
        return new Done(sum / labels, labels, results.correct(), tokens, norm);
    }

    private TrainingPass pass(int step, int i, long labels) {
        long number = (long) step * config.steps().gradientAccumulationSteps() + i;
        return new TrainingPass(
                1.0 / labels,
                Dropout.mix(config.seed(), number),
                config.regularization().labelSmoothing(),
                config.regularization().neftuneNoiseAlpha());
    }

    /** @param pass numbers of packs */
    Batch batch(int[] pass) {
        return new Batch(rows(pass).stream().map(NumberedRow::row).toList());
    }

    private List<NumberedRow> rows(int[] pass) {
        List<NumberedRow> rows = new ArrayList<>();
        for (int sample : pass) {
            packs.get(sample).forEach(row -> rows.add(new NumberedRow(sample, row)));
        }
        return rows;
    }
}
