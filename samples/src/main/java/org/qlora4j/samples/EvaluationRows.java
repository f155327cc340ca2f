package org.qlora4j.samples;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.ChatText;

/** The rows of {@code --val_dataset}, or with {@code --load_data_args true} those an adapter's run was evaluated on. */
final class EvaluationRows {
    private final Datasets datasets;
    private final List<DatasetSpec> specs;
    private final TrainingData.@Nullable Plan run;
    private final int seed;

    /** Finds the files, before anything slow happens. */
    EvaluationRows(Arguments a) {
        datasets = new Datasets(a);
        specs = datasets.specs("val_dataset");
        Arguments trained = a.bool("load_data_args") ? trainingArguments(a) : null;
        run = trained == null ? null : TrainingData.Plan.of(trained);
        seed = trained == null ? 0 : trained.integer("seed");
        if (specs.isEmpty() && run == null) {
            throw new UserException("--val_dataset is missing: one or more files, folders or ids; or --load_data_args"
                    + " true for the rows the adapter's run was evaluated on");
        }
    }

    private static Arguments trainingArguments(Arguments a) {
        Path adapter = Session.adapterPath(a);
        if (adapter == null) {
            throw new UserException("--load_data_args needs --adapters: a checkpoint of the run whose rows are meant");
        }
        Arguments run = Session.trainingArguments(adapter);
        if (run == null) {
            throw new UserException("--load_data_args: there is no args.json beside or above " + adapter);
        }
        return run;
    }

    List<Batch.Row> read(ChatText text, int vocabSize) {
        List<Batch.Row> rows = new ArrayList<>();
        if (run != null) {
            rows.addAll(TrainingData.read(run, text, vocabSize, seed).validation());
            if (rows.isEmpty()) {
                throw new UserException("--load_data_args: that run had no rows to evaluate on (val_dataset or"
                        + " split_dataset_ratio)");
            }
        }
        DatasetReader reader = datasets.reader(text, vocabSize);
        specs.forEach(spec -> rows.addAll(reader.read(spec, false, 0, 0).train()));
        datasets.printBroken();
        return rows;
    }
}
