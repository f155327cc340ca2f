package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/** The cosine and sine tables of rotary embedding, grown on demand to the longest position asked for. */
final class Rotary {
    private final Device device;
    private final Scope scope;
    private final float[] inverseFrequencies;
    private final int headDim;
    private Tensor cos;
    private Tensor sin;

    /** @param scope takes the tables; the model's */
    Rotary(Device device, Scope scope, ModelConfig config) {
        this.device = device;
        this.scope = scope;
        this.headDim = config.headDim();
        this.inverseFrequencies = config.rope().inverseFrequencies(headDim);
        this.cos = scope.newTensor(0, headDim / 2);
        this.sin = cos;
    }

    /** Turns the heads of x in place; the inverse is the gradient. */
    void apply(Tensor x, Sequences sequences, boolean inverse, Step step) {
        if (sequences.maxPosition() >= cos.rows()) {
            // Doubling keeps what is left behind in the scope below the size of the last table.
            grow(Math.max(sequences.maxPosition() + 1, Math.max(512, 2 * cos.rows())));
        }
        step.ops().rope(x, cos, sin, sequences.positions(), headDim, inverse);
    }

    private void grow(int positions) {
        int half = headDim / 2;
        double[] c = new double[positions * half];
        double[] s = new double[positions * half];
        for (int p = 0; p < positions; p++) {
            for (int i = 0; i < half; i++) {
                double angle = (double) inverseFrequencies[i] * p;
                c[p * half + i] = Math.cos(angle);
                s[p * half + i] = Math.sin(angle);
            }
        }
        cos = scope.newTensor(positions, half);
        sin = scope.newTensor(positions, half);
        device.upload(cos, c, 0);
        device.upload(sin, s, 0);
    }
}
