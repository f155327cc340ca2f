package org.qlora4j.lora.model;

/**
 * Rotary frequencies as config.json describes them.
 *
 * @see <a href="https://arxiv.org/abs/2104.09864">Su et al. 2021</a>
 */
public sealed interface RopeScaling {
    /** θ, the base of the frequencies, e.g. 10000. */
    double theta();

    /**
     * Inverse frequencies, {@code θ^(-2i/D)} for i in [0, D/2), scaled. Computed in fp32 as transformers does.
     *
     * @param headDim D
     */
    float[] inverseFrequencies(int headDim);

    /** No scaling. */
    record Plain(double theta) implements RopeScaling {
        @Override
        public float[] inverseFrequencies(int headDim) {
            float[] f = new float[headDim / 2];
            for (int i = 0; i < f.length; i++) {
                f[i] = 1f / (float) Math.pow(theta, (float) (2 * i) / headDim);
            }
            return f;
        }
    }

    /** Position interpolation: every frequency divided by the factor. */
    record Linear(double theta, double factor) implements RopeScaling {
        @Override
        public float[] inverseFrequencies(int headDim) {
            float[] f = new Plain(theta).inverseFrequencies(headDim);
            for (int i = 0; i < f.length; i++) {
                f[i] /= (float) factor;
            }
            return f;
        }
    }

    /**
     * Llama 3.1's scaling: frequencies of wavelengths above {@code originalMax/lowFreqFactor} are divided by the
     * factor, those below {@code originalMax/highFreqFactor} stay, and between them the two are mixed linearly.
     */
    record Llama3(double theta, double factor, double lowFreqFactor, double highFreqFactor, double originalMax)
            implements RopeScaling {
        @Override
        public float[] inverseFrequencies(int headDim) {
            float[] f = new Plain(theta).inverseFrequencies(headDim);
            float lowWavelength = (float) (originalMax / lowFreqFactor);
            float highWavelength = (float) (originalMax / highFreqFactor);
            for (int i = 0; i < f.length; i++) {
                float wavelength = (float) (2 * Math.PI) / f[i];
                if (wavelength > lowWavelength) {
                    f[i] /= (float) factor;
                } else if (wavelength >= highWavelength) {
                    float smooth =
                            (float) ((originalMax / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
                    f[i] = (1 - smooth) * f[i] / (float) factor + smooth * f[i];
                }
            }
            return f;
        }
    }
}
