package org.qlora4j.samples;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.adapter.LoraJson;
import org.qlora4j.lora.adapter.ModuleSelector;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.data.Permutation;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.generate.Sampling;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.Message;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.optim.AdamW;
import org.qlora4j.optim.LearningRate;
import org.qlora4j.optim.train.LogEntry;
import org.qlora4j.optim.train.Trainer;
import org.qlora4j.optim.train.TrainingConfig;
import org.qlora4j.optim.train.TrainingListener;
import org.qlora4j.optim.train.TrainingResult;

/** {@code qlora sft}: fine-tunes a model. */
final class Sft {
    static final Set<String> OPTIONS = options();

    private Sft() {}

    private static Set<String> options() {
        Set<String> names = new HashSet<>(Session.OPTIONS);
        names.addAll(Set.of(
                "dataset",
                "val_dataset",
                "split_dataset_ratio",
                "tuner_type",
                "lora_rank",
                "lora_alpha",
                "lora_dropout",
                "target_modules",
                "target_regex",
                "modules_to_save",
                "use_rslora",
                "init_weights",
                "num_train_epochs",
                "max_steps",
                "per_device_train_batch_size",
                "per_device_eval_batch_size",
                "dataloader_num_workers",
                "gradient_accumulation_steps",
                "learning_rate",
                "lr_scheduler_type",
                "warmup_ratio",
                "warmup_steps",
                "weight_decay",
                "adam_beta1",
                "adam_beta2",
                "adam_epsilon",
                "max_grad_norm",
                "max_length",
                "truncation_strategy",
                "gradient_checkpointing",
                "logging_steps",
                "eval_steps",
                "save_steps",
                "save_total_limit",
                "output_dir",
                "add_version",
                "resume_from_checkpoint",
                "dataset_shuffle",
                "train_dataloader_shuffle",
                "system",
                "model_author",
                "model_name",
                "exclude_modules",
                "rank_pattern",
                "alpha_pattern",
                "layers_to_transform",
                "ask"));
        return Set.copyOf(names);
    }

    static int run(List<String> words) {
        Arguments a = Arguments.parse(words, OPTIONS);
        if (!a.text("tuner_type", "lora").equals("lora")) {
            throw new UserException("tuner_type '" + a.text("tuner_type", "") + "' is not supported; supported: lora");
        }
        if (!a.has("dataset")) {
            throw new UserException("--dataset is missing: one or more .jsonl files or ids, each with #N for N rows");
        }
        LoraConfig lora = lora(a);
        TrainingConfig config = config(a);
        List<DatasetSpec> train = Session.datasets(a, "dataset");
        List<DatasetSpec> validation = Session.datasets(a, "val_dataset");
        try (Session session = Session.open(a, lora.loraDropout())) {
            List<String> questions = a.list("ask");
            ask(session, questions, "before training");
            DatasetReader reader = session.reader(a);
            boolean shuffle = a.bool("dataset_shuffle", true);
            List<Batch.Row> rows = read(reader, train, shuffle, config.seed(), a);
            List<Batch.Row> evalRows = read(reader, validation, false, config.seed(), a);
            double ratio = a.number("split_dataset_ratio", 0);
            if (ratio > 0 && evalRows.isEmpty()) {
                rows = split(rows, evalRows, ratio, config.seed());
            }
            session.model().setGradientCheckpointing(a.bool("gradient_checkpointing", true));
            LoraAdapter given = session.adapter();
            LoraAdapter adapter = given != null ? given : LoraAdapter.attach(session.model(), lora, config.seed());
            try {
                print(session, adapter, rows, evalRows, config);
                writeArguments(a, config.outputDir());
                train(session, adapter, a, config, rows, evalRows);
                ask(session, questions, "after training");
            } finally {
                if (given == null) {
                    adapter.close();
                }
            }
        }
        return 0;
    }

    private static void train(
            Session session,
            LoraAdapter adapter,
            Arguments a,
            TrainingConfig config,
            List<Batch.Row> rows,
            List<Batch.Row> evalRows) {
        String base = a.text("model", session.modelPath().toString());
        try (Trainer trainer =
                new Trainer(adapter, config, rows, evalRows, base, session.text()::save, new Console())) {
            if (a.has("resume_from_checkpoint")) {
                trainer.resume(Path.of(a.text("resume_from_checkpoint", "")));
            }
            long start = System.nanoTime();
            TrainingResult result = trainer.run();
            Progress.end();
            System.out.printf(
                    Locale.ROOT,
                    "trained %d steps in %s%n",
                    result.steps(),
                    Progress.time((System.nanoTime() - start) / 1e9));
            System.out.println("last_model_checkpoint: " + result.lastCheckpoint());
            System.out.println("best_model_checkpoint: " + result.bestCheckpoint()
                    + (result.bestMetric() == null ? "" : " (eval_loss " + result.bestMetric() + ")"));
        }
    }

    /** The progress bar, and a line for each log entry. */
    private static final class Console implements TrainingListener {
        @Override
        public void step(int step, int totalSteps, double loss, double tokensPerSecond, double secondsLeft) {
            int filled = 20 * step / totalSteps;
            Progress.line(String.format(
                    Locale.ROOT,
                    "[%s%s] %d/%d  loss %.4f  %.0f tokens/s  %s left",
                    "=".repeat(filled),
                    " ".repeat(20 - filled),
                    step,
                    totalSteps,
                    loss,
                    tokensPerSecond,
                    Progress.time(secondsLeft)));
        }

        @Override
        public void logged(LogEntry entry) {
            Progress.line("");
            System.out.print("\r");
            System.out.println(entry.values());
        }

        @Override
        public void saved(Path checkpoint) {
            System.out.println("saved " + checkpoint);
        }
    }

    private static void ask(Session session, List<String> questions, String when) {
        if (questions.isEmpty()) {
            return;
        }
        Generator generator = new Generator(session.model(), session.text());
        System.out.println("-- " + when);
        for (String question : questions) {
            System.out.println("<<< " + question);
            System.out.print(">>> ");
            generator.answer(List.of(Message.user(question)), Sampling.GREEDY, 48, Sft::show);
            System.out.println();
        }
    }

    static void show(String piece) {
        System.out.print(piece);
        System.out.flush();
    }

    /** Reads all sets; rows that are too long are dropped or cut, and counted. */
    private static List<Batch.Row> read(
            DatasetReader reader, List<DatasetSpec> specs, boolean shuffle, long seed, Arguments a) {
        int maxLength = a.integer("max_length", 2048);
        String strategy = a.text("truncation_strategy", "delete");
        if (maxLength < 2 || !Set.of("delete", "left", "right").contains(strategy)) {
            throw new UserException("max_length must be at least 2 and truncation_strategy delete, left or right; got "
                    + maxLength + ", " + strategy);
        }
        List<Batch.Row> rows = new ArrayList<>();
        int tooLong = 0;
        for (DatasetSpec spec : specs) {
            for (Batch.Row row : reader.read(spec, shuffle, seed)) {
                Batch.Row fitting = row;
                if (row.ids().length > maxLength) {
                    tooLong++;
                    if (strategy.equals("delete")) {
                        continue;
                    }
                    int from = strategy.equals("left") ? row.ids().length - maxLength : 0;
                    fitting = new Batch.Row(
                            java.util.Arrays.copyOfRange(row.ids(), from, from + maxLength),
                            java.util.Arrays.copyOfRange(row.labels(), from, from + maxLength));
                }
                if (fitting.labelTokens() > 0) {
                    rows.add(fitting);
                }
            }
        }
        if (tooLong > 0) {
            System.out.println(tooLong + " rows are longer than max_length " + maxLength + " (truncation_strategy "
                    + strategy + ")");
        }
        if (!specs.isEmpty() && rows.isEmpty()) {
            throw new UserException("no row of " + specs + " is left: all are longer than max_length or have no label");
        }
        return rows;
    }

    /** Moves a random share of the rows to the evaluation set; the rest is returned. */
    private static List<Batch.Row> split(List<Batch.Row> rows, List<Batch.Row> evalRows, double ratio, long seed) {
        int count = (int) Math.round(rows.size() * ratio);
        if (count < 1 || count >= rows.size()) {
            throw new UserException("split_dataset_ratio " + ratio + " of " + rows.size()
                    + " rows leaves nothing to train or to evaluate on");
        }
        int[] order = Permutation.of(rows.size(), new SplittableRandom(seed));
        List<Batch.Row> rest = new ArrayList<>();
        for (int i = 0; i < order.length; i++) {
            (i < count ? evalRows : rest).add(rows.get(order[i]));
        }
        return rest;
    }

    private static void print(
            Session s, LoraAdapter adapter, List<Batch.Row> rows, List<Batch.Row> evalRows, TrainingConfig config) {
        long trained = adapter.parameters().count();
        System.out.printf(
                Locale.ROOT,
                "LoRA on %d linear layers, %,d trained parameters%n%d rows to train on, %d to evaluate, %d tokens (%d of them labels), longest row %d%n",
                adapter.targets().size(),
                trained,
                rows.size(),
                evalRows.size(),
                rows.stream().mapToLong(r -> r.ids().length).sum(),
                rows.stream().mapToLong(Batch.Row::labelTokens).sum(),
                rows.stream().mapToInt(r -> r.ids().length).max().orElse(0));
        Batch.Row first = rows.getFirst();
        int[] labelled = java.util.stream.IntStream.range(0, first.ids().length)
                .filter(i -> first.labels()[i] != Batch.IGNORED)
                .map(i -> first.labels()[i])
                .toArray();
        System.out.println("[INPUT] " + s.text().tokenizer().decode(first.ids()).replace("\n", "\\n"));
        System.out.println("[LABELS] " + s.text().tokenizer().decode(labelled).replace("\n", "\\n"));
        System.out.println("output: " + config.outputDir());
    }

    private static void writeArguments(Arguments a, Path outputDir) {
        try {
            Files.createDirectories(outputDir);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot create output_dir " + outputDir + ": " + e, e);
        }
        AtomicFile.writeString(outputDir.resolve("args.json"), a.toJson().toPrettyString() + "\n");
    }

    private static TrainingConfig config(Arguments a) {
        Path output = Path.of(a.text("output_dir", "output"));
        if (a.bool("add_version", true) && !a.has("resume_from_checkpoint")) {
            int version = 0;
            while (exists(output, "v" + version + "-")) {
                version++;
            }
            output = output.resolve(
                    "v" + version + "-" + LocalDateTime.now().format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss")));
        }
        int saveSteps = a.integer("save_steps", 500);
        return new TrainingConfig(
                a.number("num_train_epochs", 3),
                a.integer("max_steps", -1),
                a.integer("per_device_train_batch_size", 1),
                a.integer("per_device_eval_batch_size", 1),
                a.integer("gradient_accumulation_steps", Math.max(1, 16 / a.integer("per_device_train_batch_size", 1))),
                a.number("learning_rate", 1e-4),
                LearningRate.Schedule.of(a.text("lr_scheduler_type", "cosine")),
                a.number("warmup_ratio", 0),
                a.integer("warmup_steps", 0),
                new AdamW.Options(
                        a.number("adam_beta1", 0.9),
                        a.number("adam_beta2", 0.95),
                        a.number("adam_epsilon", 1e-8),
                        a.number("weight_decay", 0.1),
                        a.number("max_grad_norm", 1)),
                a.integer("logging_steps", 5),
                a.integer("eval_steps", saveSteps),
                saveSteps,
                a.integer("save_total_limit", 0),
                output,
                a.integer("seed", 42),
                a.bool("train_dataloader_shuffle", true));
    }

    private static boolean exists(Path folder, String prefix) {
        String[] names = folder.toFile().list((f, n) -> n.startsWith(prefix));
        return names != null && names.length > 0;
    }

    private static LoraConfig lora(Arguments a) {
        ModuleSelector targets;
        if (a.has("target_regex")) {
            targets = new ModuleSelector.Regex(a.text("target_regex", ""));
        } else {
            List<String> names = a.has("target_modules") ? a.list("target_modules") : List.of("all-linear");
            targets = names.equals(List.of("all-linear"))
                    ? new ModuleSelector.AllLinear()
                    : new ModuleSelector.Names(new LinkedHashSet<>(names));
        }
        String init = a.text("init_weights", "true").toLowerCase(Locale.ROOT);
        LoraConfig.InitWeights initWeights = switch (init) {
            case "true" -> LoraConfig.InitWeights.TRUE;
            case "false" -> LoraConfig.InitWeights.FALSE;
            case "gaussian" -> LoraConfig.InitWeights.GAUSSIAN;
            default ->
                throw new UserException(
                        "init_weights '" + init + "' is not supported; supported: true, false, gaussian");
        };
        return new LoraConfig(
                a.integer("lora_rank", 8),
                a.number("lora_alpha", 32),
                a.number("lora_dropout", 0.05),
                targets,
                exclude(a),
                a.bool("use_rslora", false),
                LoraJson.ranks(a.json("rank_pattern")),
                LoraJson.alphas(a.json("alpha_pattern")),
                LoraJson.layers(a.json("layers_to_transform")),
                new LinkedHashSet<>(a.list("modules_to_save")),
                initWeights);
    }

    private static @Nullable ModuleSelector exclude(Arguments a) {
        if (!a.has("exclude_modules")) {
            return null;
        }
        List<String> words = a.list("exclude_modules");
        if (words.getFirst().startsWith("[") || words.getFirst().startsWith("\"")) {
            JsonNode json = a.json("exclude_modules");
            if (json.isTextual()) {
                return new ModuleSelector.Regex(json.textValue());
            }
            Set<String> names = new LinkedHashSet<>();
            json.forEach(n -> names.add(n.asText()));
            return new ModuleSelector.Names(names);
        }
        return new ModuleSelector.Names(new LinkedHashSet<>(words));
    }
}
