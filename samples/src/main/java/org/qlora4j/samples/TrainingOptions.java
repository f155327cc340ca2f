package org.qlora4j.samples;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.HashMap;
import java.util.Map;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.optim.OptimizerConfig;
import org.qlora4j.optim.OptimizerNames;
import org.qlora4j.optim.Schedule;
import org.qlora4j.optim.ScheduleNames;
import org.qlora4j.optim.memory.MemorySettings;
import org.qlora4j.optim.train.Trainer;
import org.qlora4j.optim.train.TrainingConfig;

/** The trainer's configuration as sft's options say it. */
final class TrainingOptions {
    private TrainingOptions() {}

    /** @param ranks rank 0's folder holds for all */
    static TrainingConfig config(Arguments a, Communicator ranks) {
        Path own = ranks.isRoot() ? outputDir(a) : Path.of("");
        Path outputDir = Path.of(
                new String(ranks.broadcast(own.toString().getBytes(StandardCharsets.UTF_8)), StandardCharsets.UTF_8));
        a.settle("gradient_accumulation_steps", Math.max(1, 16 / a.integer("per_device_train_batch_size")));
        a.settle("eval_steps", a.text("save_steps"));
        a.settle("eval_strategy", a.text("save_strategy"));
        boolean loss = !a.text("metric_for_best_model").endsWith("token_acc");
        a.settle("greater_is_better", !loss);
        try {
            return new TrainingConfig(
                    new TrainingConfig.Steps(
                            a.number("num_train_epochs"),
                            a.integer("max_steps"),
                            a.integer("per_device_train_batch_size"),
                            a.integer("gradient_accumulation_steps"),
                            a.bool("train_dataloader_shuffle"),
                            a.bool("group_by_length")),
                    new TrainingConfig.Rate(
                            schedule(a),
                            a.number("learning_rate"),
                            a.number("warmup_ratio"),
                            a.integer("warmup_steps")),
                    optimizer(a),
                    new TrainingConfig.Regularization(
                            a.number("neftune_noise_alpha"), a.number("label_smoothing_factor")),
                    new TrainingConfig.Evaluation(
                            a.integer("per_device_eval_batch_size"),
                            interval(a, "eval"),
                            a.text("metric_for_best_model"),
                            a.bool("greater_is_better"),
                            a.integer("early_stop_interval"),
                            a.bool("load_best_model_at_end")),
                    new TrainingConfig.Saving(
                            outputDir, a.integer("logging_steps"), interval(a, "save"), a.integer("save_total_limit")),
                    a.integer("seed"));
        } catch (IllegalArgumentException e) {
            throw new UserException(e.getMessage());
        }
    }

    static Communicator.Reduction reduction(Arguments a) {
        return switch (a.text("reduction")) {
            case "tree" -> Communicator.Reduction.TREE;
            case "fast" -> Communicator.Reduction.FAST;
            default -> throw new UserException("reduction must be tree or fast, got '" + a.text("reduction") + "'");
        };
    }

    /** Sums of gradients that are kept beside the one in progress. */
    static int keptSums(Arguments a) {
        a.settle("gradient_accumulation_steps", Math.max(1, 16 / a.integer("per_device_train_batch_size")));
        return reduction(a) == Communicator.Reduction.FAST
                ? 0
                : MemorySettings.keptSums(a.integer("gradient_accumulation_steps"));
    }

    private static Schedule schedule(Arguments a) {
        Map<String, Object> kwargs = new HashMap<>();
        JsonNode given = a.json("lr_scheduler_kwargs");
        given.properties().forEach(e -> kwargs.put(e.getKey(), e.getValue().asText()));
        return ScheduleNames.schedule(a.text("lr_scheduler_type"), kwargs, a.number("learning_rate"));
    }

    static OptimizerConfig optimizer(Arguments a) {
        return OptimizerNames.config(
                        a.text("optim"),
                        new OptimizerNames.Constants(
                                a.number("adam_beta1"),
                                a.number("adam_beta2"),
                                a.number("adam_epsilon"),
                                a.number("weight_decay")),
                        a.text("optim_args"))
                .withMaxGradNorm(a.number("max_grad_norm"))
                .withLoraPlusLrRatio(a.number("loraplus_lr_ratio"));
    }

    private static int interval(Arguments a, String what) {
        String strategy = a.text(what + "_strategy");
        return switch (strategy) {
            case "steps" -> a.integer(what + "_steps");
            case "epoch" -> TrainingConfig.EACH_EPOCH;
            case "no" -> what.equals("eval") ? 0 : Integer.MAX_VALUE;
            default -> throw new UserException(what + "_strategy must be steps, epoch or no, got '" + strategy + "'");
        };
    }

    /** A new folder for each run; a resumed run goes on in its own. */
    private static Path outputDir(Arguments a) {
        Path output = Path.of(a.text("output_dir"));
        if (a.has("resume_from_checkpoint") && !a.bool("resume_only_model")) {
            Path run = Trainer.findCheckpoint(Path.of(a.text("resume_from_checkpoint")))
                    .getParent();
            return run == null ? output : run;
        }
        if (!a.bool("add_version")) {
            return output;
        }
        int version = 0;
        while (exists(output, "v" + version + "-")) {
            version++;
        }
        return output.resolve(
                "v" + version + "-" + LocalDateTime.now().format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss")));
    }

    private static boolean exists(Path folder, String prefix) {
        String[] names = folder.toFile().list((f, n) -> n.startsWith(prefix));
        return names != null && names.length > 0;
    }
}
