package org.qlora4j.nf4.device.cpu;

import org.qlora4j.nf4.device.AdamWStep;

/**
 * The numbers of an AdamW step as its loop wants them: computed in double, rounded once.
 *
 * @param decay 1 − lr·wd
 * @param stepSize lr / (1 − b1^t)
 * @param rootOfCorrection2 √(1 − b2^t)
 */
record AdamWFactors(
        float gradientScale,
        float decay,
        float oneMinusBeta1,
        float beta2,
        float oneMinusBeta2,
        float stepSize,
        float rootOfCorrection2,
        float epsilon) {

    static AdamWFactors of(AdamWStep step) {
        return new AdamWFactors(
                (float) step.gradientScale(),
                (float) (1 - step.learningRate() * step.weightDecay()),
                (float) (1 - step.beta1()),
                (float) step.beta2(),
                (float) (1 - step.beta2()),
                (float) (step.learningRate() / (1 - Math.pow(step.beta1(), step.step()))),
                (float) Math.sqrt(1 - Math.pow(step.beta2(), step.step())),
                (float) step.epsilon());
    }
}
