package org.qlora4j.nf4.device.cpu;

import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerStep;

/**
 * The numbers of an optimizer step as its loops want them: computed in double, rounded once. What a rule does not have
 * is 0, or 1 where it multiplies.
 *
 * @param gradientDecay wd where it is added to the gradient that the state sees
 * @param updateDecay wd where it is added to the gradient that the parameter sees
 * @param decayBefore factor on p before the update
 * @param decayAfter factor on p after it
 * @param keep1 beta1, or what state1 is multiplied by
 * @param take1 1 − beta1, or what the gradient (or its square) in state1 is multiplied by
 * @param stepSize lr, divided by 1 − b1^t in AdamW
 * @param rootOfCorrection2 √(1 − b2^t)
 * @param correction1 1 − b1^t, for AdEMAMix
 */
record OptimizerFactors(
        float gradientScale,
        float gradientDecay,
        float updateDecay,
        float decayBefore,
        float decayAfter,
        float keep1,
        float take1,
        float keep2,
        float take2,
        float keep3,
        float take3,
        float alpha,
        float stepSize,
        float correction1,
        float rootOfCorrection2,
        float epsilon) {

    /** @param decayedUpdate whether a coupled decay counts in the update, not only in the state */
    static OptimizerFactors of(OptimizerStep step, boolean decayedUpdate) {
        double lr = step.learningRate();
        long t = step.step();
        double wd = step.rule().weightDecay();
        double update = decayedUpdate ? wd : 0;
        double decay = 1 - lr * wd;
        return switch (step.rule()) {
            case OptimizerRule.AdamW r ->
                factors(
                        step,
                        0,
                        0,
                        r.decayFirst() ? decay : 1,
                        r.decayFirst() ? 1 : decay,
                        r.beta1(),
                        1 - r.beta1(),
                        r.beta2(),
                        0,
                        0,
                        lr / (1 - Math.pow(r.beta1(), t)),
                        1,
                        1 - Math.pow(r.beta2(), t),
                        r.epsilon());
            case OptimizerRule.AdEmaMix r ->
                factors(
                        step,
                        0,
                        0,
                        r.decayFirst() ? decay : 1,
                        r.decayFirst() ? 1 : decay,
                        r.beta1(),
                        1 - r.beta1(),
                        r.beta2(),
                        r.beta3At(t),
                        r.alphaAt(t),
                        lr,
                        1 - Math.pow(r.beta1(), t),
                        1 - Math.pow(r.beta2(), t),
                        r.epsilon());
            case OptimizerRule.Lion r ->
                factors(step, 0, 0, decay, 1, r.beta1(), 1 - r.beta1(), r.beta2(), 0, 0, lr, 1, 1, 0);
            case OptimizerRule.Sgd r ->
                factors(step, wd, wd, decay, 1, t == 1 ? 0 : r.momentum(), 1, 0, 0, 0, lr, 1, 1, 0);
            case OptimizerRule.RmsProp r ->
                factors(step, wd, update, 1, 1, r.alpha(), 1 - r.alpha(), 0, 0, 0, lr, 1, 1, r.epsilon());
            case OptimizerRule.Adagrad r -> factors(step, wd, update, 1, 1, 1, 1, 0, 0, 0, lr, 1, 1, r.epsilon());
        };
    }

    private static OptimizerFactors factors(
            OptimizerStep step,
            double gradientDecay,
            double updateDecay,
            double decayBefore,
            double decayAfter,
            double keep1,
            double take1,
            double beta2,
            double beta3,
            double alpha,
            double stepSize,
            double correction1,
            double correction2,
            double epsilon) {
        return new OptimizerFactors(
                (float) step.gradientScale(),
                (float) gradientDecay,
                (float) updateDecay,
                (float) decayBefore,
                (float) decayAfter,
                (float) keep1,
                (float) take1,
                (float) beta2,
                (float) (1 - beta2),
                (float) beta3,
                (float) (1 - beta3),
                (float) alpha,
                (float) stepSize,
                (float) correction1,
                (float) Math.sqrt(correction2),
                (float) epsilon);
    }
}
