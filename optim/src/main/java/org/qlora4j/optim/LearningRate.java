package org.qlora4j.optim;

import java.util.Locale;

/**
 * transformers' learning rate schedules: linear warm-up from 0, then constant, linear to 0, or half a cosine to 0.
 *
 * @param schedule what follows the warm-up
 * @param peak the rate after warm-up
 * @param warmupSteps steps of warm-up
 * @param totalSteps steps of the whole training
 */
public record LearningRate(Schedule schedule, double peak, int warmupSteps, int totalSteps) {
    /** {@code lr_scheduler_type}. */
    public enum Schedule {
        CONSTANT,
        CONSTANT_WITH_WARMUP,
        LINEAR,
        COSINE;

        /** Reads transformers' name. @throws IllegalArgumentException if it is not supported */
        public static Schedule of(String name) {
            for (Schedule s : values()) {
                if (s.name().toLowerCase(Locale.ROOT).equals(name)) {
                    return s;
                }
            }
            throw new IllegalArgumentException("lr_scheduler_type '" + name
                    + "' is not supported; supported: constant, constant_with_warmup, linear, cosine");
        }
    }

    public LearningRate {
        if (!(peak >= 0) || Double.isInfinite(peak) || warmupSteps < 0 || totalSteps < 1) {
            throw new IllegalArgumentException(
                    "learning_rate must be 0 or more, warm-up steps 0 or more, total steps at least 1; got " + peak
                            + ", " + warmupSteps + ", " + totalSteps);
        }
    }

    /** The rate of a step. @param step from 0: steps done before it */
    public double at(int step) {
        if (schedule != Schedule.CONSTANT && step < warmupSteps) {
            return peak * step / Math.max(1, warmupSteps);
        }
        double rest = Math.max(0, totalSteps - step) / (double) Math.max(1, totalSteps - warmupSteps);
        return switch (schedule) {
            case CONSTANT, CONSTANT_WITH_WARMUP -> peak;
            case LINEAR -> peak * rest;
            case COSINE -> peak * 0.5 * (1 + Math.cos(Math.PI * (1 - rest)));
        };
    }
}
