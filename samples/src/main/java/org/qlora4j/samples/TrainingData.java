package org.qlora4j.samples;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.data.Interleaving;
import org.qlora4j.lora.data.Truncation;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Tokenizer;

/** The rows that {@code --dataset} and {@code --val_dataset} name, ready for training. */
record TrainingData(List<Batch.Row> train, List<Batch.Row> validation) {
    /** What the options say; its files have been found, nothing of them has been read. */
    record Plan(
            Datasets datasets,
            List<DatasetSpec> train,
            List<DatasetSpec> validation,
            double validationRatio,
            boolean shuffle,
            @Nullable Interleaving interleaving,
            int maxLength,
            Truncation truncation) {
        static Plan of(Arguments a) {
            if (!a.has("dataset")) {
                throw new UserException(
                        "--dataset is missing: one or more files, folders or ids, each with #N for N rows");
            }
            int maxLength = a.integer("max_length");
            if (maxLength < 2) {
                throw new UserException("max_length must be at least 2, got " + maxLength);
            }
            double ratio = a.number("split_dataset_ratio");
            if (!(ratio >= 0 && ratio < 1)) {
                throw new UserException("split_dataset_ratio must be in [0, 1), got " + ratio);
            }
            Datasets datasets = new Datasets(a);
            return new Plan(
                    datasets,
                    datasets.specs("dataset"),
                    datasets.specs("val_dataset"),
                    a.has("val_dataset") ? 0 : ratio,
                    a.bool("dataset_shuffle"),
                    interleaving(a),
                    maxLength,
                    Truncation.of(a.text("truncation_strategy")));
        }

        private static @Nullable Interleaving interleaving(Arguments a) {
            if (!a.has("interleave_prob")) {
                return null;
            }
            try {
                return new Interleaving(
                        a.list("interleave_prob").stream().map(Double::valueOf).toList(),
                        Interleaving.Stopping.of(a.text("stopping_strategy")));
            } catch (NumberFormatException e) {
                throw new UserException("--interleave_prob must be numbers, got " + a.list("interleave_prob"));
            }
        }
    }

    /** Reads all sets; rows that are too long are dropped, cut or split, and counted. */
    static TrainingData read(Plan plan, ChatText text, int vocabSize, long seed) {
        DatasetReader reader = plan.datasets.reader(text, vocabSize);
        List<List<Batch.Row>> sets = new ArrayList<>();
        List<Batch.Row> validation = new ArrayList<>();
        for (DatasetSpec spec : plan.train) {
            DatasetReader.Rows rows = reader.read(spec, plan.shuffle, seed, plan.validationRatio);
            sets.add(rows.train());
            validation.addAll(rows.validation());
        }
        for (DatasetSpec spec : plan.validation) {
            validation.addAll(reader.read(spec, false, seed, 0).train());
        }
        plan.datasets.printBroken();
        if (plan.validationRatio > 0 && validation.isEmpty()) {
            throw new UserException(
                    "split_dataset_ratio " + plan.validationRatio + " holds no row back; there are too few rows");
        }
        List<Batch.Row> train = plan.interleaving == null
                ? sets.stream().flatMap(List::stream).toList()
                : plan.interleaving.mix(sets, seed);
        TrainingData data = new TrainingData(fitting(train, plan), fitting(validation, plan));
        if (data.train.isEmpty()) {
            throw new UserException(
                    "no row is left: all are longer than max_length " + plan.maxLength + " or have no label");
        }
        return data;
    }

    private static List<Batch.Row> fitting(List<Batch.Row> rows, Plan plan) {
        List<Batch.Row> fitting = new ArrayList<>();
        int tooLong = 0;
        for (Batch.Row row : rows) {
            tooLong += row.ids().length > plan.maxLength ? 1 : 0;
            fitting.addAll(plan.truncation.apply(row, plan.maxLength));
        }
        if (tooLong > 0) {
            System.out.println(tooLong + " rows are longer than max_length " + plan.maxLength
                    + " (truncation_strategy "
                    + plan.truncation.name().toLowerCase(Locale.ROOT) + ")");
        }
        return fitting;
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
