package org.qlora4j.samples;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.data.Interleaving;
import org.qlora4j.lora.data.LengthStatistics;
import org.qlora4j.lora.data.Packing;
import org.qlora4j.lora.data.Truncation;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Tokenizer;
import org.qlora4j.optim.train.Trainer;

/** The rows that {@code --dataset} and {@code --val_dataset} name, ready for training. */
record TrainingData(List<Batch.Row> train, List<Batch.Row> validation, List<List<Batch.Row>> packs) {
    /** What the options say; its files have been found, nothing of them has been read. */
    record Plan(
            Datasets datasets,
            List<DatasetSpec> train,
            List<DatasetSpec> validation,
            double validationRatio,
            boolean shuffle,
            @Nullable Interleaving interleaving,
            int maxLength,
            Truncation truncation,
            int packingLength) {
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
                    Truncation.of(a.text("truncation_strategy")),
                    packingLength(a, maxLength));
        }

        /** 0 for none. */
        private static int packingLength(Arguments a, int maxLength) {
            if (!a.bool("packing")) {
                if (a.has("packing_length")) {
                    throw new UserException("packing_length has no effect without --packing true");
                }
                return 0;
            }
            int length = a.has("packing_length") ? a.integer("packing_length") : maxLength;
            if (length < maxLength) {
                throw new UserException("packing_length must be at least max_length, " + maxLength + ", got " + length);
            }
            return length;
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
        List<Batch.Row> rows = fitting(train, plan);
        if (rows.isEmpty()) {
            throw new UserException(
                    "no row is left: all are longer than max_length " + plan.maxLength + " or have no label");
        }
        List<List<Batch.Row>> packs =
                plan.packingLength == 0 ? Trainer.unpacked(rows) : Packing.bestFit(rows, plan.packingLength);
        return new TrainingData(rows, fitting(validation, plan), packs);
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

    /** Says how many rows and tokens there are, and shows the first row with what is learned of it. */
    void print(ChatText text) {
        System.out.printf(
                Locale.ROOT,
                "%d rows to train on, %d to evaluate, %d tokens (%d of them labels), longest row %d%n",
                train.size(),
                validation.size(),
                train.stream().mapToLong(r -> r.ids().length).sum(),
                train.stream().mapToLong(Batch.Row::labelTokens).sum(),
                train.stream().mapToInt(r -> r.ids().length).max().orElse(0));
        System.out.println(LengthStatistics.of(train));
        if (packs.size() < train.size()) {
            System.out.printf(
                    Locale.ROOT,
                    "packed into %d places of a batch, %.1f rows in each%n",
                    packs.size(),
                    train.size() / (double) packs.size());
        }
        if (!text.hasTokenizer()) {
            return;
        }
        Batch.Row first = train.getFirst();
        System.out.println("[INPUT] " + text.tokenizer().decode(first.ids()).replace("\n", "\\n"));
        System.out.println("[LABELS] " + labels(first, text.tokenizer()).replace("\n", "\\n"));
        int last = IntStream.of(first.labels())
                .filter(label -> label != Batch.IGNORED)
                .reduce(-1, (a, b) -> b);
        if (!text.stopIds().isEmpty() && !text.stopIds().contains(last)) {
            System.out.println(
                    "the last label is " + text.tokenizer().token(last).orElse("none")
                            + ", which is not where an answer stops: the model will not learn to end its answers");
        }
    }

    /** The labels as text, and {@code [-100 * n]} for n tokens that are not learned. */
    private static String labels(Batch.Row row, Tokenizer tokenizer) {
        StringBuilder out = new StringBuilder();
        int from = 0;
        for (int i = 1; i <= row.labels().length; i++) {
            boolean ignored = row.labels()[from] == Batch.IGNORED;
            if (i == row.labels().length || ignored != (row.labels()[i] == Batch.IGNORED)) {
                out.append(
                        ignored
                                ? "[-100 * " + (i - from) + "]"
                                : tokenizer.decode(Arrays.copyOfRange(row.labels(), from, i)));
                from = i;
            }
        }
        return out.toString();
    }
}
