package org.qlora4j.optim;

import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.weight.Blockwise8;

/**
 * An optimizer as data: what it does and how it keeps its state.
 *
 * @param rule the update, with its constants
 * @param layout of the state
 * @param maxGradNorm {@code max_grad_norm}: gradients are scaled down to this joint norm; 0 for no limit
 * @param loraPlusLrRatio {@code loraplus_lr_ratio}: learning rate of LoRA's B (and of vectors) relative to A's; 1 for
 *     plain LoRA (<a href="https://arxiv.org/abs/2402.12354">Hayou et al. 2024</a>)
 */
public record OptimizerConfig(OptimizerRule rule, Layout layout, double maxGradNorm, double loraPlusLrRatio) {
    public OptimizerConfig {
        if (!(maxGradNorm >= 0) || !(loraPlusLrRatio > 0) || Double.isInfinite(loraPlusLrRatio)) {
            throw new IllegalArgumentException("max_grad_norm must be 0 or more and loraplus_lr_ratio positive; got "
                    + maxGradNorm + ", " + loraPlusLrRatio);
        }
    }

    /**
     * How state lies in memory.
     *
     * @param eightBit one byte an element and a scale per 256; state of fewer than {@link Optimizer#MIN_8BIT_SIZE}
     *     elements stays full
     * @param paged in memory that the system may move to disk; state of fewer than {@link Optimizer#MIN_PAGED_SIZE}
     *     elements stays in plain memory
     * @param rounding of 8-bit codes: NEAREST as bitsandbytes' GPU kernels, TABLE as its CPU library
     */
    public record Layout(boolean eightBit, boolean paged, Blockwise8.Rule rounding) {
        /** Full and in plain memory. */
        public static final Layout FULL = new Layout(false, false, Blockwise8.Rule.NEAREST);
    }

    /** torch's AdamW without clipping, as {@code adamw_torch}. */
    public static OptimizerConfig adamW(double beta1, double beta2, double epsilon, double weightDecay) {
        return new OptimizerConfig(
                new OptimizerRule.AdamW(beta1, beta2, epsilon, weightDecay, true), Layout.FULL, 0, 1);
    }

    /** With another limit of the gradients' norm. */
    public OptimizerConfig withMaxGradNorm(double limit) {
        return new OptimizerConfig(rule, layout, limit, loraPlusLrRatio);
    }

    /** With another learning rate ratio of B to A. */
    public OptimizerConfig withLoraPlusLrRatio(double ratio) {
        return new OptimizerConfig(rule, layout, maxGradNorm, ratio);
    }
}
