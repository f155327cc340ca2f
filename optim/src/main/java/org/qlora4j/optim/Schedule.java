package org.qlora4j.optim;

import java.util.Locale;
import org.jspecify.annotations.Nullable;

/**
 * The shape of a learning rate over time, as transformers' schedulers compute it. Except for {@link Constant} all rise
 * from 0 in warm-up steps first.
 */
public sealed interface Schedule {
    /**
     * The rate of a step, relative to the peak.
     *
     * @param step steps done before it, from 0
     * @param plan peak, warm-up and total
     */
    double factor(int step, LearningRate plan);

    /** {@code constant}, without warm-up. */
    record Constant() implements Schedule {
        @Override
        public double factor(int step, LearningRate plan) {
            return 1;
        }
    }

    /** {@code constant_with_warmup}. */
    record ConstantWithWarmup() implements Schedule {
        @Override
        public double factor(int step, LearningRate plan) {
            return step < plan.warmupSteps() ? plan.warmUp(step) : 1;
        }
    }

    /** {@code linear}: down to 0. */
    record Linear() implements Schedule {
        @Override
        public double factor(int step, LearningRate plan) {
            if (step < plan.warmupSteps()) {
                return plan.warmUp(step);
            }
            return Math.max(
                    0, (plan.totalSteps() - step) / (double) Math.max(1, plan.totalSteps() - plan.warmupSteps()));
        }
    }

    /**
     * {@code cosine} and {@code cosine_with_min_lr}.
     *
     * @param numCycles waves, 0.5 for one half
     * @param minLrRate lowest rate, relative to the peak
     */
    record Cosine(double numCycles, double minLrRate) implements Schedule {
        public Cosine {
            share("min_lr_rate", minLrRate);
        }

        @Override
        public double factor(int step, LearningRate plan) {
            if (step < plan.warmupSteps()) {
                return plan.warmUp(step);
            }
            double wave = 0.5 * (1 + Math.cos(Math.PI * numCycles * 2 * plan.progress(step)));
            return Math.max(0, wave * (1 - minLrRate) + minLrRate);
        }
    }

    /** {@code cosine_with_restarts}. @param numCycles half waves, each from the peak */
    record CosineWithRestarts(double numCycles) implements Schedule {
        @Override
        public double factor(int step, LearningRate plan) {
            if (step < plan.warmupSteps()) {
                return plan.warmUp(step);
            }
            double progress = plan.progress(step);
            return progress >= 1 ? 0 : Math.max(0, 0.5 * (1 + Math.cos(Math.PI * (numCycles * progress % 1))));
        }
    }

    /** {@code polynomial}. @param lrEnd absolute rate at the end, below the peak */
    record Polynomial(double lrEnd, double power) implements Schedule {
        public Polynomial {
            if (!(lrEnd >= 0) || !(power > 0)) {
                throw new IllegalArgumentException(
                        "lr_scheduler_kwargs: lr_end must be 0 or more and power positive; got " + lrEnd + ", "
                                + power);
            }
        }

        @Override
        public double factor(int step, LearningRate plan) {
            if (step < plan.warmupSteps()) {
                return plan.warmUp(step);
            }
            if (plan.peak() == 0) {
                return 0;
            }
            double left = 1 - plan.progress(step);
            return ((plan.peak() - lrEnd) * Math.pow(Math.max(0, left), power) + lrEnd) / plan.peak();
        }
    }

    /** {@code inverse_sqrt}. @param timescale steps; 0 for as many as warm up, or 10,000 */
    record InverseSqrt(int timescale) implements Schedule {
        @Override
        public double factor(int step, LearningRate plan) {
            if (step < plan.warmupSteps()) {
                return plan.warmUp(step);
            }
            int warmup = plan.warmupSteps() > 0 ? plan.warmupSteps() : 10_000;
            double scale = timescale > 0 ? timescale : warmup;
            return 1 / Math.sqrt((step + scale - plan.warmupSteps()) / scale);
        }
    }

    /** How {@link WarmupStableDecay} rises and falls. */
    enum Ramp {
        LINEAR,
        COSINE,
        ONE_MINUS_SQRT;

        static Ramp of(String name) {
            return switch (name.toLowerCase(Locale.ROOT)) {
                case "linear" -> LINEAR;
                case "cosine" -> COSINE;
                case "1-sqrt" -> ONE_MINUS_SQRT;
                default ->
                    throw new IllegalArgumentException("lr_scheduler_kwargs: warmup_type and decay_type are linear, "
                            + "cosine or 1-sqrt; got '" + name + "'");
            };
        }
    }

    /**
     * {@code warmup_stable_decay}.
     *
     * @param stableSteps steps at the peak; null for all that warm-up and decay leave
     * @param minLrRatio where warm-up begins and decay ends, relative to the peak
     * @param numCycles waves of a cosine decay
     */
    record WarmupStableDecay(
            int decaySteps, @Nullable Integer stableSteps, Ramp warmup, Ramp decay, double minLrRatio, double numCycles)
            implements Schedule {
        public WarmupStableDecay {
            share("min_lr_ratio", minLrRatio);
        }

        @Override
        public double factor(int step, LearningRate plan) {
            int stable = stableSteps != null ? stableSteps : plan.totalSteps() - plan.warmupSteps() - decaySteps;
            int decayStart = plan.warmupSteps() + stable;
            if (step < plan.warmupSteps()) {
                double progress = plan.warmUp(step);
                return above(
                        switch (warmup) {
                            case LINEAR -> progress;
                            case COSINE -> 0.5 * (1 - Math.cos(Math.PI * progress));
                            case ONE_MINUS_SQRT -> 1 - Math.sqrt(1 - progress);
                        });
            }
            if (step < decayStart) {
                return 1;
            }
            if (step >= decayStart + decaySteps) {
                return minLrRatio;
            }
            double progress = (step - decayStart) / (double) Math.max(1, decaySteps);
            return above(
                    switch (decay) {
                        case LINEAR -> 1 - progress;
                        case COSINE -> 0.5 * (1 + Math.cos(Math.PI * numCycles * 2 * progress));
                        case ONE_MINUS_SQRT -> 1 - Math.sqrt(progress);
                    });
        }

        private double above(double factor) {
            return Math.max(0, factor * (1 - minLrRatio) + minLrRatio);
        }
    }

    private static void share(String name, double value) {
        if (!(value >= 0 && value <= 1)) {
            throw new IllegalArgumentException("lr_scheduler_kwargs: " + name + " must be in [0, 1], got " + value);
        }
    }
}
