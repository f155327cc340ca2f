package org.qlora4j.lora.model;

import java.util.List;

/**
 * Rotary frequencies as config.json describes them. Computed in fp32 as transformers does.
 *
 * @see <a href="https://arxiv.org/abs/2104.09864">Su et al. 2021</a>
 */
public sealed interface RopeScaling {
    /** θ, the base of the frequencies, e.g. 10000. */
    double theta();

    /**
     * Inverse frequencies, {@code θ^(-2i/R)} for 2i in [0, R), scaled.
     *
     * @param rotaryDim R, how many elements of a head are rotated
     */
    float[] inverseFrequencies(int rotaryDim);

    /** Factor on cosine and sine, so that its square is on the scores. */
    default double attentionFactor() {
        return 1;
    }

    /** Rows of more tokens than this turn by {@link #longInverseFrequencies} instead, all of their tokens. */
    default int longRowsAbove() {
        return Integer.MAX_VALUE;
    }

    /** Whether rows longer than {@link #longRowsAbove} have other frequencies for each length. */
    default boolean changesWithLength() {
        return false;
    }

    /**
     * Inverse frequencies of rows longer than {@link #longRowsAbove}.
     *
     * @param length of the row, in tokens
     */
    default float[] longInverseFrequencies(int rotaryDim, int length) {
        return inverseFrequencies(rotaryDim);
    }

    /** θ^(2i/R), the wavelengths over 2π. */
    private static float[] periods(double theta, int rotaryDim) {
        float[] p = new float[(rotaryDim + 1) / 2];
        for (int i = 0; i < p.length; i++) {
            p[i] = (float) Math.pow(theta, (float) (2 * i) / rotaryDim);
        }
        return p;
    }

    /** No scaling. */
    record Plain(double theta) implements RopeScaling {
        @Override
        public float[] inverseFrequencies(int rotaryDim) {
            float[] f = periods(theta, rotaryDim);
            for (int i = 0; i < f.length; i++) {
                f[i] = 1f / f[i];
            }
            return f;
        }
    }

    /** Position interpolation: every frequency divided by the factor. */
    record Linear(double theta, double factor) implements RopeScaling {
        @Override
        public float[] inverseFrequencies(int rotaryDim) {
            float[] f = new Plain(theta).inverseFrequencies(rotaryDim);
            for (int i = 0; i < f.length; i++) {
                f[i] /= (float) factor;
            }
            return f;
        }
    }

    /**
     * Dynamic NTK: a row of L tokens, more than the model was made for, turns by the larger base {@code θ·(factor·L/max
     * − factor + 1)^(R/(R−2))}. transformers keeps the base of the longest row it has seen until a short one comes;
     * here each row is turned as if it came first.
     *
     * @param max max_position_embeddings
     */
    record Dynamic(double theta, double factor, int max) implements RopeScaling {
        @Override
        public int longRowsAbove() {
            return max;
        }

        @Override
        public boolean changesWithLength() {
            return true;
        }

        @Override
        public float[] inverseFrequencies(int rotaryDim) {
            return new Plain(theta).inverseFrequencies(rotaryDim);
        }

        @Override
        public float[] longInverseFrequencies(int rotaryDim, int length) {
            double stretch = factor * length / max - (factor - 1);
            double base = theta * Math.pow(stretch, (double) rotaryDim / (rotaryDim - 2));
            return new Plain(base).inverseFrequencies(rotaryDim);
        }
    }

    /**
     * Llama 3.1's scaling: frequencies of wavelengths above {@code originalMax/lowFreqFactor} are divided by the
     * factor, those below {@code originalMax/highFreqFactor} stay, and between them the two are mixed linearly.
     */
    record Llama3(double theta, double factor, double lowFreqFactor, double highFreqFactor, double originalMax)
            implements RopeScaling {
        @Override
        public float[] inverseFrequencies(int rotaryDim) {
            float[] f = new Plain(theta).inverseFrequencies(rotaryDim);
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

    /**
     * YaRN: dimensions that turn more than betaFast times within originalMax tokens keep their frequency, those that
     * turn less than betaSlow times have it divided by the factor, and between them the two are mixed linearly.
     *
     * @param truncate whether the borders are rounded outwards to whole dimensions
     * @see <a href="https://arxiv.org/abs/2309.00071">Peng et al. 2023</a>
     */
    record Yarn(
            double theta,
            double factor,
            double attentionFactor,
            double betaFast,
            double betaSlow,
            double originalMax,
            boolean truncate)
            implements RopeScaling {
        /** The factor the paper suggests for a score scale m: {@code 0.1·m·ln(factor) + 1}. */
        static double mscale(double factor, double m) {
            return factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1;
        }

        @Override
        public float[] inverseFrequencies(int rotaryDim) {
            double low = dimensionOf(betaFast, rotaryDim);
            double high = dimensionOf(betaSlow, rotaryDim);
            if (truncate) {
                low = Math.floor(low);
                high = Math.ceil(high);
            }
            low = Math.max(low, 0);
            high = Math.min(high, rotaryDim - 1);
            if (low == high) {
                high += 0.001;
            }
            float[] f = periods(theta, rotaryDim);
            for (int i = 0; i < f.length; i++) {
                float ramp = Math.max(0, Math.min(1, (i - (float) low) / (float) (high - low)));
                float keep = 1 - ramp;
                f[i] = 1f / ((float) factor * f[i]) * (1 - keep) + 1f / f[i] * keep;
            }
            return f;
        }

        /** The dimension that turns so often within originalMax tokens. */
        private double dimensionOf(double turns, int rotaryDim) {
            return rotaryDim * Math.log(originalMax / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
        }
    }

    /**
     * LongRoPE: each frequency divided by a factor of its own, found by search; one set of factors for rows up to
     * originalMax tokens and one for longer rows.
     *
     * @see <a href="https://arxiv.org/abs/2402.13753">Ding et al. 2024</a>
     */
    record LongRope(
            double theta, List<Double> shortFactor, List<Double> longFactor, double attentionFactor, int originalMax)
            implements RopeScaling {
        public LongRope {
            shortFactor = List.copyOf(shortFactor);
            longFactor = List.copyOf(longFactor);
        }

        @Override
        public int longRowsAbove() {
            return originalMax;
        }

        @Override
        public float[] inverseFrequencies(int rotaryDim) {
            return scaled(rotaryDim, shortFactor);
        }

        @Override
        public float[] longInverseFrequencies(int rotaryDim, int length) {
            return scaled(rotaryDim, longFactor);
        }

        private float[] scaled(int rotaryDim, List<Double> factors) {
            float[] f = periods(theta, rotaryDim);
            for (int i = 0; i < f.length; i++) {
                f[i] = 1f / (factors.get(i).floatValue() * f[i]);
            }
            return f;
        }
    }
}
