package org.qlora4j.nf4.device;

/**
 * How an optimizer turns a gradient g into a change of the parameter p. Each rule holds its constants; t counts steps
 * from 1. Rules with {@code decayFirst} multiply p by {@code 1 − lr·wd} before the update, as torch and bitsandbytes'
 * CPU code do; otherwise after it, as bitsandbytes' GPU kernels do.
 */
public sealed interface OptimizerRule {
    /** Averages in {@link OptimizerState#state1()}. */
    int state1Rows();

    /** Averages of squares in {@link OptimizerState#state2()}. */
    int state2Rows();

    /** {@code weight_decay}. */
    double weightDecay();

    /**
     * {@code m = b1·m + (1−b1)·g; v = b2·v + (1−b2)·g²; p −= lr/(1−b1^t) · m / (√v/√(1−b2^t) + eps)}, decoupled decay.
     *
     * @see <a href="https://arxiv.org/abs/1711.05101">Loshchilov and Hutter 2017</a>
     */
    record AdamW(double beta1, double beta2, double epsilon, double weightDecay, boolean decayFirst)
            implements OptimizerRule {
        public AdamW {
            unitInterval("adam_beta1", beta1);
            unitInterval("adam_beta2", beta2);
            atLeastZero("adam_epsilon", epsilon);
            atLeastZero("weight_decay", weightDecay);
        }

        @Override
        public int state1Rows() {
            return 1;
        }

        @Override
        public int state2Rows() {
            return 1;
        }
    }

    /**
     * {@code p *= 1 − lr·wd; p −= lr · sign(b1·m + (1−b1)·g); m = b2·m + (1−b2)·g}.
     *
     * @see <a href="https://arxiv.org/abs/2302.06675">Chen et al. 2023</a>
     */
    record Lion(double beta1, double beta2, double weightDecay) implements OptimizerRule {
        public Lion {
            unitInterval("adam_beta1", beta1);
            unitInterval("adam_beta2", beta2);
            atLeastZero("weight_decay", weightDecay);
        }

        @Override
        public int state1Rows() {
            return 1;
        }

        @Override
        public int state2Rows() {
            return 0;
        }
    }

    /** {@code g += wd·p; m = momentum·m + g (m = g at t = 1); p −= lr·m}; without momentum no state. */
    record Sgd(double momentum, double weightDecay) implements OptimizerRule {
        public Sgd {
            unitInterval("momentum", momentum);
            atLeastZero("weight_decay", weightDecay);
        }

        @Override
        public int state1Rows() {
            return momentum == 0 ? 0 : 1;
        }

        @Override
        public int state2Rows() {
            return 0;
        }
    }

    /**
     * {@code g += wd·p; v = alpha·v + (1−alpha)·g²; p −= lr·g/(√v + eps)}. bitsandbytes' 8-bit GPU kernel adds the
     * decay to the state's gradient only; so does 8-bit state that rounds to nearest.
     */
    record RmsProp(double alpha, double epsilon, double weightDecay) implements OptimizerRule {
        public RmsProp {
            unitInterval("alpha", alpha);
            atLeastZero("epsilon", epsilon);
            atLeastZero("weight_decay", weightDecay);
        }

        @Override
        public int state1Rows() {
            return 1;
        }

        @Override
        public int state2Rows() {
            return 0;
        }
    }

    /** {@code g += wd·p; v += g²; p −= lr·g/(√v + eps)}; 8-bit as {@link RmsProp}. */
    record Adagrad(double epsilon, double weightDecay) implements OptimizerRule {
        public Adagrad {
            atLeastZero("epsilon", epsilon);
            atLeastZero("weight_decay", weightDecay);
        }

        @Override
        public int state1Rows() {
            return 1;
        }

        @Override
        public int state2Rows() {
            return 0;
        }
    }

    /**
     * AdamW with a second, slow average: {@code m1 = b1·m1 + (1−b1)·g; m2 = b3·m2 + (1−b3)·g; v = b2·v + (1−b2)·g²; p
     * −= lr · (m1/(1−b1^t) + alpha·m2) / (√v/√(1−b2^t) + eps)}. m1 and m2 are the rows of state1.
     *
     * @param alphaSteps {@code t_alpha}: steps over which alpha grows linearly; 0 for a constant alpha
     * @param beta3Steps {@code t_beta3}: steps over which the slow average's half-life grows linearly from beta1's; 0
     *     for a constant beta3
     * @see <a href="https://arxiv.org/abs/2409.03137">Pagliardini et al. 2024</a>
     */
    record AdEmaMix(
            double beta1,
            double beta2,
            double beta3,
            double alpha,
            double epsilon,
            double weightDecay,
            int alphaSteps,
            int beta3Steps,
            boolean decayFirst)
            implements OptimizerRule {
        public AdEmaMix {
            unitInterval("beta1", beta1);
            unitInterval("beta2", beta2);
            unitInterval("beta3", beta3);
            atLeastZero("alpha", alpha);
            atLeastZero("epsilon", epsilon);
            atLeastZero("weight_decay", weightDecay);
            atLeastZero("t_alpha", alphaSteps);
            atLeastZero("t_beta3", beta3Steps);
        }

        @Override
        public int state1Rows() {
            return 2;
        }

        @Override
        public int state2Rows() {
            return 1;
        }

        /** alpha of step t. */
        public double alphaAt(long t) {
            return alphaSteps == 0 ? alpha : Math.min(t * alpha / alphaSteps, alpha);
        }

        /** beta3 of step t. */
        public double beta3At(long t) {
            if (beta3Steps == 0) {
                return beta3;
            }
            double ln1 = Math.log(beta1);
            double ln3 = Math.log(beta3);
            double done = (double) t / beta3Steps;
            return Math.min(Math.exp(ln1 * ln3 / ((1 - done) * ln3 + done * ln1)), beta3);
        }
    }

    private static void unitInterval(String name, double value) {
        if (!(value >= 0 && value < 1)) {
            throw new IllegalArgumentException(name + " must be in [0, 1), got " + value);
        }
    }

    private static void atLeastZero(String name, double value) {
        if (!(value >= 0) || Double.isInfinite(value)) {
            throw new IllegalArgumentException(name + " must be 0 or more, got " + value);
        }
    }
}
