package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/** Rotary embedding with one set of frequencies, or two where long rows have their own. */
final class Rotary {
    private final int headDim;
    private final int longRowsAbove;
    private final Table table;
    private final Table longRows;

    /** @param scope takes the tables; the model's */
    Rotary(Device device, Scope scope, RopeScaling rope, int headDim, int rotaryDim) {
        this.headDim = headDim;
        this.longRowsAbove = rope.longRowsAbove();
        double factor = rope.attentionFactor();
        this.table = new Table(device, scope, rope.inverseFrequencies(rotaryDim), factor);
        this.longRows = longRowsAbove == Integer.MAX_VALUE
                ? table
                : new Table(device, scope, rope.longInverseFrequencies(rotaryDim), factor);
    }

    /** Turns the heads of x in place; the inverse is the gradient. */
    void apply(Tensor x, Sequences sequences, boolean inverse, Step step) {
        if (sequences.longest() <= longRowsAbove) {
            apply(table, x, sequences, sequences.positions(), inverse, step);
            return;
        }
        int[] offsets = sequences.offsets();
        for (int s = 0; s + 1 < offsets.length; s++) {
            int n = offsets[s + 1] - offsets[s];
            apply(
                    sequences.length(s) > longRowsAbove ? longRows : table,
                    x.rows(offsets[s], n),
                    sequences,
                    sequences.positions().cols(offsets[s], n),
                    inverse,
                    step);
        }
    }

    private void apply(Table t, Tensor x, Sequences sequences, Tensor positions, boolean inverse, Step step) {
        t.reach(sequences.longest());
        step.ops().rope(x, t.cos, t.sin, positions, headDim, inverse);
    }

    /** Cosines and sines, grown on demand to the longest position asked for. */
    private static final class Table {
        private final Device device;
        private final Scope scope;
        private final float[] inverseFrequencies;
        private final double factor;
        private Tensor cos;
        private Tensor sin;

        Table(Device device, Scope scope, float[] inverseFrequencies, double factor) {
            this.device = device;
            this.scope = scope;
            this.inverseFrequencies = inverseFrequencies;
            this.factor = factor;
            this.cos = scope.newPrecise(0, inverseFrequencies.length);
            this.sin = cos;
        }

        void reach(int positions) {
            if (positions > cos.rows()) {
                // Doubling keeps what is left behind in the scope below the size of the last table.
                grow(Math.max(positions, Math.max(512, 2 * cos.rows())));
            }
        }

        private void grow(int positions) {
            int half = inverseFrequencies.length;
            double[] c = new double[Math.multiplyExact(positions, half)];
            double[] s = new double[c.length];
            for (int p = 0; p < positions; p++) {
                for (int i = 0; i < half; i++) {
                    double angle = (double) inverseFrequencies[i] * p;
                    c[p * half + i] = Math.cos(angle) * factor;
                    s[p * half + i] = Math.sin(angle) * factor;
                }
            }
            cos = scope.newPrecise(positions, half);
            sin = scope.newPrecise(positions, half);
            device.upload(cos, c, 0);
            device.upload(sin, s, 0);
        }
    }
}
