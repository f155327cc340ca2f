package org.qlora4j.samples;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.adapter.LoraJson;
import org.qlora4j.lora.adapter.ModuleSelector;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.generate.Sampling;
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
        names.addAll(TrainingData.OPTIONS);
        names.addAll(Set.of(
                "tuner_type",
                "lora_rank",
                "lora_alpha",
                "lora_dropout",
                "target_modules",
                "target_regex",
                "modules_to_save",
                "use_rslora",
                "use_dora",
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
                "gradient_checkpointing",
                "logging_steps",
                "eval_steps",
                "save_steps",
                "save_total_limit",
                "output_dir",
                "add_version",
                "resume_from_checkpoint",
                "train_dataloader_shuffle",
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
        TrainingData.Specs specs = TrainingData.Specs.of(a);
        LoraConfig lora = lora(a);
        TrainingConfig config = config(a);
        try (Session session = Session.open(a, lora.loraDropout())) {
            List<String> questions = a.list("ask");
            ask(session, questions, "before training");
            TrainingData data = TrainingData.read(specs, session.reader(a), a, config.seed());
            session.model().setGradientCheckpointing(a.bool("gradient_checkpointing", true));
            LoraAdapter given = session.adapter();
            LoraAdapter adapter = given != null ? given : LoraAdapter.attach(session.model(), lora, config.seed());
            try {
                print(adapter, data, session, config);
                writeArguments(a, config.outputDir());
                train(session, adapter, a, config, data);
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
            Session session, LoraAdapter adapter, Arguments a, TrainingConfig config, TrainingData data) {
        String base = a.text("model", session.modelPath().toString());
        try (Trainer trainer = new Trainer(
                adapter, config, data.train(), data.validation(), base, session.text()::save, new Console())) {
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

    private static void print(LoraAdapter adapter, TrainingData data, Session session, TrainingConfig config) {
        System.out.printf(
                Locale.ROOT,
                "LoRA on %d linear layers, %,d trained parameters%n",
                adapter.targets().size(),
                adapter.parameters().count());
        data.print(session.text().tokenizer());
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
        return LoraConfig.builder(a.integer("lora_rank", 8), a.number("lora_alpha", 32))
                .loraDropout(a.number("lora_dropout", 0.05))
                .targetModules(targets)
                .excludeModules(exclude(a))
                .useRslora(a.bool("use_rslora", false))
                .useDora(a.bool("use_dora", false))
                .rankPattern(LoraJson.ranks(a.json("rank_pattern")))
                .alphaPattern(LoraJson.alphas(a.json("alpha_pattern")))
                .layersToTransform(LoraJson.layers(a.json("layers_to_transform")))
                .modulesToSave(new LinkedHashSet<>(a.list("modules_to_save")))
                .initWeights(initWeights)
                .build();
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
