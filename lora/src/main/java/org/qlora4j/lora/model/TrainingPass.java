package org.qlora4j.lora.model;

/**
 * How one forward and backward pass trains.
 *
 * @param gradientScale usually 1 / label tokens of the whole accumulated batch
 * @param seed of dropout masks and noise; another for each pass
 * @param labelSmoothing {@code label_smoothing_factor}, in [0, 1)
 * @param neftuneNoiseAlpha {@code neftune_noise_alpha}; 0 for no noise
 */
public record TrainingPass(double gradientScale, long seed, double labelSmoothing, double neftuneNoiseAlpha) {
    /** Without smoothing and noise. */
    public TrainingPass(double gradientScale, long seed) {
        this(gradientScale, seed, 0, 0);
    }
}
