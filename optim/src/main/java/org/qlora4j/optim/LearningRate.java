package org.qlora4j.optim;

/**
 * The learning rate of each step.
 *
 * @param schedule its shape
 * @param peak the rate after warm-up
 * @param warmupSteps steps of warm-up
 * @param totalSteps steps of the whole training
 */
public record LearningRate(Schedule schedule, double peak, int warmupSteps, int totalSteps) {
    public LearningRate {
        if (!(peak >= 0) || Double.isInfinite(peak) || warmupSteps < 0 || totalSteps < 1) {
            throw new IllegalArgumentException(
                    "learning_rate must be 0 or more, warm-up steps 0 or more, total steps at least 1; got " + peak
                            + ", " + warmupSteps + ", " + totalSteps);
        }
    }

    /** The rate of a step. @param step from 0: steps done before it */
    public double at(int step) {
        return peak * schedule.factor(step, this);
    }

    /** Share of the warm-up done. */
    double warmUp(int step) {
        return step / (double) Math.max(1, warmupSteps);
    }

    /** Share of the steps after warm-up done. */
    double progress(int step) {
        return (step - warmupSteps) / (double) Math.max(1, totalSteps - warmupSteps);
    }
}
