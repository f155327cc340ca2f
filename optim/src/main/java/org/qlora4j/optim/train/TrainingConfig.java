package org.qlora4j.optim.train;

import java.nio.file.Path;
import java.util.Set;
import org.qlora4j.optim.LearningRate;
import org.qlora4j.optim.OptimizerConfig;
import org.qlora4j.optim.Schedule;

/**
 * How to train; names and defaults are ms-swift's.
 *
 * @param optimizer what steps the parameters, and how its state lies
 * @param seed of data order, dropout and noise
 */
public record TrainingConfig(
        Steps steps,
        Rate rate,
        OptimizerConfig optimizer,
        Regularization regularization,
        Evaluation evaluation,
        Saving saving,
        long seed) {

    /** For {@link Evaluation#evalSteps} and {@link Saving#saveSteps}: at the end of each epoch. */
    public static final int EACH_EPOCH = -1;

    public TrainingConfig {
        boolean needsPairs = evaluation.earlyStopInterval > 0 || evaluation.loadBestModelAtEnd;
        if (needsPairs && (evaluation.evalSteps == 0 || !savesOnlyEvaluated(evaluation.evalSteps, saving.saveSteps))) {
            throw new IllegalArgumentException(
                    "early_stop_interval and load_best_model_at_end compare saved checkpoints,"
                            + " so each must have been evaluated: save_steps must be a multiple of eval_steps, or both be per"
                            + " epoch; got save_steps " + saving.saveSteps + ", eval_steps " + evaluation.evalSteps);
        }
    }

    private static boolean savesOnlyEvaluated(int evalSteps, int saveSteps) {
        return evalSteps == EACH_EPOCH || saveSteps == EACH_EPOCH ? evalSteps == saveSteps : saveSteps % evalSteps == 0;
    }

    /**
     * How long, and in which portions.
     *
     * @param numTrainEpochs passes over the data
     * @param maxSteps optimizer steps; -1 for what the epochs give
     * @param trainBatchSize rows (or packs of rows) of one forward and backward pass
     * @param gradientAccumulationSteps passes of one optimizer step; the last step of an epoch may have fewer
     * @param shuffle whether rows come in random order, another one in each epoch
     * @param groupByLength whether rows of a step have about the same length; random otherwise, whatever shuffle says
     */
    public record Steps(
            double numTrainEpochs,
            int maxSteps,
            int trainBatchSize,
            int gradientAccumulationSteps,
            boolean shuffle,
            boolean groupByLength) {
        /** Rows of all lengths together. */
        public Steps(
                double numTrainEpochs,
                int maxSteps,
                int trainBatchSize,
                int gradientAccumulationSteps,
                boolean shuffle) {
            this(numTrainEpochs, maxSteps, trainBatchSize, gradientAccumulationSteps, shuffle, false);
        }

        public Steps {
            atLeast("per_device_train_batch_size", trainBatchSize, 1);
            atLeast("gradient_accumulation_steps", gradientAccumulationSteps, 1);
            if (maxSteps < 1 && !(numTrainEpochs > 0 && numTrainEpochs < 1e6)) {
                throw new IllegalArgumentException("num_train_epochs must be positive, got " + numTrainEpochs);
            }
        }

        /** Optimizer steps of one epoch. */
        int perEpoch(int samples) {
            int passes = (samples + trainBatchSize - 1) / trainBatchSize;
            return (passes + gradientAccumulationSteps - 1) / gradientAccumulationSteps;
        }

        /** Optimizer steps of the whole run. */
        int total(int samples) {
            return maxSteps > 0 ? maxSteps : Math.max(1, (int) Math.ceil(numTrainEpochs * perEpoch(samples)));
        }
    }

    /**
     * The learning rate.
     *
     * @param peak {@code learning_rate}, after warm-up
     * @param warmupRatio share of the steps that warm up; counts if warmupSteps is 0
     * @param warmupSteps steps that warm up
     */
    public record Rate(Schedule schedule, double peak, double warmupRatio, int warmupSteps) {
        public Rate {
            atLeast("warmup_steps", warmupSteps, 0);
            if (!(warmupRatio >= 0 && warmupRatio <= 1)) {
                throw new IllegalArgumentException("warmup_ratio must be in [0, 1], got " + warmupRatio);
            }
        }

        LearningRate of(int totalSteps) {
            int warmup = warmupSteps > 0 ? warmupSteps : (int) Math.ceil(totalSteps * warmupRatio);
            return new LearningRate(schedule, peak, warmup, totalSteps);
        }
    }

    /**
     * What keeps a model from learning its rows by heart.
     *
     * @param neftuneNoiseAlpha {@code neftune_noise_alpha}; 0 for none
     * @param labelSmoothing {@code label_smoothing_factor}; evaluation is not smoothed
     */
    public record Regularization(double neftuneNoiseAlpha, double labelSmoothing) {
        public static final Regularization NONE = new Regularization(0, 0);

        public Regularization {
            if (!(neftuneNoiseAlpha >= 0) || !(labelSmoothing >= 0 && labelSmoothing < 1)) {
                throw new IllegalArgumentException(
                        "neftune_noise_alpha must be 0 or more and label_smoothing_factor in [0, 1); got "
                                + neftuneNoiseAlpha + ", " + labelSmoothing);
            }
        }
    }

    /**
     * Evaluation during training, and what follows from it.
     *
     * @param evalBatchSize rows of one evaluation pass
     * @param evalSteps steps between two evaluations; 0 for none but the last, {@link #EACH_EPOCH}
     * @param metricForBestModel loss, ppl or token_acc; with or without {@code eval_}
     * @param greaterIsBetter of that metric
     * @param earlyStopInterval checkpoints without a better metric after which training stops; 0 for never
     * @param loadBestModelAtEnd whether the adapter ends with the best checkpoint's values
     */
    public record Evaluation(
            int evalBatchSize,
            int evalSteps,
            String metricForBestModel,
            boolean greaterIsBetter,
            int earlyStopInterval,
            boolean loadBestModelAtEnd) {
        static final Set<String> METRICS = Set.of("loss", "ppl", "token_acc");

        public Evaluation {
            atLeast("per_device_eval_batch_size", evalBatchSize, 1);
            atLeast("eval_steps", evalSteps, EACH_EPOCH);
            atLeast("early_stop_interval", earlyStopInterval, 0);
            metricForBestModel = metricForBestModel.replaceFirst("^eval_", "");
            if (!METRICS.contains(metricForBestModel)) {
                throw new IllegalArgumentException("metric_for_best_model '" + metricForBestModel
                        + "' is not supported; supported: loss, ppl, token_acc");
            }
        }

        /** By lowest loss, never stopping early. */
        public static Evaluation byLoss(int evalBatchSize, int evalSteps) {
            return new Evaluation(evalBatchSize, evalSteps, "loss", false, 0, false);
        }
    }

    /**
     * Logs and checkpoints.
     *
     * @param outputDir where they go
     * @param loggingSteps steps between two log lines
     * @param saveSteps steps between two checkpoints, {@link #EACH_EPOCH}; the last step always saves
     * @param saveTotalLimit checkpoints kept, the best and the last always; 0 for all
     */
    public record Saving(Path outputDir, int loggingSteps, int saveSteps, int saveTotalLimit) {
        public Saving {
            atLeast("logging_steps", loggingSteps, 1);
            atLeast("save_total_limit", saveTotalLimit, 0);
            if (saveSteps != EACH_EPOCH) {
                atLeast("save_steps", saveSteps, 1);
            }
        }
    }

    private static void atLeast(String option, int value, int least) {
        if (value < least) {
            throw new IllegalArgumentException(option + " must be at least " + least + ", got " + value);
        }
    }
}
