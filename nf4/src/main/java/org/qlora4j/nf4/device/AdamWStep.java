package org.qlora4j.nf4.device;

/**
 * The numbers of one AdamW step, in torch's order: {@code p *= 1 - lr·wd; m = b1·m + (1-b1)·g; v = b2·v + (1-b2)·g²; p
 * -= lr/(1-b1^t) · m / (√v/√(1-b2^t) + eps)}.
 *
 * @param step t, from 1
 * @param gradientScale factor on g before use: the clipping coefficient
 */
public record AdamWStep(
        long step,
        double learningRate,
        double beta1,
        double beta2,
        double epsilon,
        double weightDecay,
        double gradientScale) {}
