package org.qlora4j.optim.train;

import java.nio.file.Path;
import org.qlora4j.optim.LearningRate;
import org.qlora4j.optim.OptimizerConfig;

/**
 * How to train; names and defaults are ms-swift's.
 *
 * @param numTrainEpochs passes over the data
 * @param maxSteps optimizer steps; -1 for what the epochs give
 * @param trainBatchSize rows of one forward and backward pass
 * @param evalBatchSize rows of one evaluation pass
 * @param gradientAccumulationSteps passes of one optimizer step
 * @param learningRate after warm-up
 * @param schedule of the learning rate
 * @param warmupRatio share of the steps that warm up; counts if warmupSteps is 0
 * @param warmupSteps steps that warm up
 * @param optimizer what steps the parameters, and how its state lies
 * @param loggingSteps steps between two log lines
 * @param evalSteps steps between two evaluations; 0 for none but the last
 * @param saveSteps steps between two checkpoints; the last step always saves
 * @param saveTotalLimit checkpoints kept, the best and the last always; 0 for all
 * @param outputDir where checkpoints and logs go
 * @param seed of data order and dropout
 * @param shuffle whether rows come in random order
 */
public record TrainingConfig(
        double numTrainEpochs,
        int maxSteps,
        int trainBatchSize,
        int evalBatchSize,
        int gradientAccumulationSteps,
        double learningRate,
        LearningRate.Schedule schedule,
        double warmupRatio,
        int warmupSteps,
        OptimizerConfig optimizer,
        int loggingSteps,
        int evalSteps,
        int saveSteps,
        int saveTotalLimit,
        Path outputDir,
        long seed,
        boolean shuffle) {

    public TrainingConfig {
        atLeast("per_device_train_batch_size", trainBatchSize, 1);
        atLeast("per_device_eval_batch_size", evalBatchSize, 1);
        atLeast("gradient_accumulation_steps", gradientAccumulationSteps, 1);
        atLeast("logging_steps", loggingSteps, 1);
        atLeast("eval_steps", evalSteps, 0);
        atLeast("save_steps", saveSteps, 1);
        atLeast("save_total_limit", saveTotalLimit, 0);
        atLeast("warmup_steps", warmupSteps, 0);
        if (!(warmupRatio >= 0 && warmupRatio <= 1)) {
            throw new IllegalArgumentException("warmup_ratio must be in [0, 1], got " + warmupRatio);
        }
        if (maxSteps < 1 && !(numTrainEpochs > 0)) {
            throw new IllegalArgumentException("num_train_epochs must be positive, got " + numTrainEpochs);
        }
    }

    private static void atLeast(String option, int value, int least) {
        if (value < least) {
            throw new IllegalArgumentException(option + " must be at least " + least + ", got " + value);
        }
    }

    /** Passes of one epoch: the last one may have fewer rows. */
    int passesPerEpoch(int rows) {
        return (rows + trainBatchSize - 1) / trainBatchSize;
    }

    /** Optimizer steps of one epoch: the last one may accumulate fewer passes. */
    int stepsPerEpoch(int rows) {
        return (passesPerEpoch(rows) + gradientAccumulationSteps - 1) / gradientAccumulationSteps;
    }

    int totalSteps(int rows) {
        return maxSteps > 0 ? maxSteps : Math.max(1, (int) Math.ceil(numTrainEpochs * stepsPerEpoch(rows)));
    }

    LearningRate schedule(int rows) {
        int total = totalSteps(rows);
        int warmup = warmupSteps > 0 ? warmupSteps : (int) Math.ceil(total * warmupRatio);
        return new LearningRate(schedule, learningRate, warmup, total);
    }
}
