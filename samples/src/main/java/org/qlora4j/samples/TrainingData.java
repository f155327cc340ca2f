package org.qlora4j.samples;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.data.Permutation;
import org.qlora4j.lora.data.Truncation;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.Tokenizer;

/** The rows that {@code --dataset} and {@code --val_dataset} name, ready for training. */
record TrainingData(List<Batch.Row> train, List<Batch.Row> validation) {
    /** The sets an option names, before anything slow happens. */
    record Specs(List<DatasetSpec> train, List<DatasetSpec> validation) {
        static Specs of(Arguments a) {
            if (!a.has("dataset")) {
                throw new UserException(
                        "--dataset is missing: one or more .jsonl files or ids, each with #N for N rows");
            }
            return new Specs(Session.datasets(a, "dataset"), Session.datasets(a, "val_dataset"));
        }
    }

    /** Reads all sets; rows that are too long are dropped, cut or split, and counted. */
    static TrainingData read(Specs specs, DatasetReader reader, Arguments a, long seed) {
        int maxLength = a.integer("max_length");
        if (maxLength < 2) {
            throw new UserException("max_length must be at least 2, got " + maxLength);
        }
        Truncation truncation = Truncation.of(a.text("truncation_strategy"));
        List<Batch.Row> rows = fitting(reader, specs.train(), a.bool("dataset_shuffle"), seed, maxLength, truncation);
        List<Batch.Row> validation = fitting(reader, specs.validation(), false, seed, maxLength, truncation);
        double ratio = a.number("split_dataset_ratio");
        return ratio > 0 && validation.isEmpty() ? split(rows, ratio, seed) : new TrainingData(rows, validation);
    }

    private static List<Batch.Row> fitting(
            DatasetReader reader,
            List<DatasetSpec> specs,
            boolean shuffle,
            long seed,
            int maxLength,
            Truncation truncation) {
        List<Batch.Row> rows = new ArrayList<>();
        int tooLong = 0;
        for (DatasetSpec spec : specs) {
            for (Batch.Row row : reader.read(spec, shuffle, seed)) {
                tooLong += row.ids().length > maxLength ? 1 : 0;
                rows.addAll(truncation.apply(row, maxLength));
            }
        }
        if (tooLong > 0) {
            System.out.println(tooLong + " rows are longer than max_length " + maxLength + " (truncation_strategy "
                    + truncation.name().toLowerCase(Locale.ROOT) + ")");
        }
        if (!specs.isEmpty() && rows.isEmpty()) {
            throw new UserException("no row of " + specs + " is left: all are longer than max_length or have no label");
        }
        return rows;
    }

    /** A random share of the rows becomes the evaluation set. */
    private static TrainingData split(List<Batch.Row> rows, double ratio, long seed) {
        int count = (int) Math.round(rows.size() * ratio);
        if (count < 1 || count >= rows.size()) {
            throw new UserException("split_dataset_ratio " + ratio + " of " + rows.size()
                    + " rows leaves nothing to train or to evaluate on");
        }
        int[] order = Permutation.of(rows.size(), new SplittableRandom(seed));
        List<Batch.Row> train = new ArrayList<>();
        List<Batch.Row> validation = new ArrayList<>();
        for (int i = 0; i < order.length; i++) {
            (i < count ? validation : train).add(rows.get(order[i]));
        }
        return new TrainingData(train, validation);
    }

    /** Says how many rows and tokens there are, and shows the first row with its labels. */
    void print(Tokenizer tokenizer) {
        System.out.printf(
                Locale.ROOT,
                "%d rows to train on, %d to evaluate, %d tokens (%d of them labels), longest row %d%n",
                train.size(),
                validation.size(),
                train.stream().mapToLong(r -> r.ids().length).sum(),
                train.stream().mapToLong(Batch.Row::labelTokens).sum(),
                train.stream().mapToInt(r -> r.ids().length).max().orElse(0));
        Batch.Row first = train.getFirst();
        int[] labelled = IntStream.range(0, first.ids().length)
                .filter(i -> first.labels()[i] != Batch.IGNORED)
                .map(i -> first.labels()[i])
                .toArray();
        System.out.println("[INPUT] " + tokenizer.decode(first.ids()).replace("\n", "\\n"));
        System.out.println("[LABELS] " + tokenizer.decode(labelled).replace("\n", "\\n"));
    }
}
