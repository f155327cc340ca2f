package org.qlora4j.optim.train;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.TrainingPass;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.tensor.Parameter;

/** Finds where NaN or infinity came from: row by row, layer by layer. Slow, and only run when it has happened. */
final class NotFiniteSearch {
    private NotFiniteSearch() {}

    /**
     * Says what is known about a step whose loss or gradient was not finite. Uses the gradients' memory.
     *
     * @param rows the step's rows by their numbers in the training data
     */
    static String explain(LoraAdapter adapter, List<Step.NumberedRow> rows, TrainingPass pass) {
        List<String> found = new ArrayList<>();
        for (Step.NumberedRow row : rows) {
            if (row.row().labelTokens() == 0) {
                continue;
            }
            Batch batch = new Batch(List.of(row.row()));
            adapter.parameters().zeroGradients();
            double loss = adapter.model().gradients(batch, pass).sum() / batch.labelTokens();
            Parameter gradient = lastNotFinite(adapter);
            if (!Double.isFinite(loss)) {
                String where = adapter.model().firstNotFinite(batch);
                found.add("row " + row.number() + " of the training data has loss " + loss + ", from "
                        + (where == null ? "dropout or noise" : where) + " on");
            } else if (gradient != null) {
                found.add("row " + row.number() + " of the training data has loss " + loss + ", but its gradient is not"
                        + " finite from " + gradient.name() + " down");
            }
        }
        adapter.parameters().zeroGradients();
        return found.isEmpty()
                ? "none of the step's rows alone shows it: "
                        + rows.stream().map(Step.NumberedRow::number).toList()
                : String.join("; ", found);
    }

    /** Gradients flow from the last layer to the first, so the last one is the first that went wrong. */
    private static @Nullable Parameter lastNotFinite(LoraAdapter adapter) {
        Ops ops = adapter.model().device().ops();
        for (Parameter p : adapter.parameters().parameters().reversed()) {
            if (!Double.isFinite(ops.sumOfSquares(p.gradient()))) {
                return p;
            }
        }
        return null;
    }
}
