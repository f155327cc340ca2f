package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/** Rotary embedding with one set of frequencies, or others for long rows. */
final class Rotary {
    private final int headDim;
    private final int longRowsAbove;
    private final Table table;
    private final Table longRows;

    /** @param scope takes the tables; the model's */
    Rotary(Device device, Scope scope, RopeScaling rope, int headDim, int rotaryDim) {
        this.headDim = headDim;
        this.longRowsAbove = rope.longRowsAbove();
        this.table = new Table(device, scope, rope, rotaryDim, false);
        this.longRows = longRowsAbove == Integer.MAX_VALUE ? table : new Table(device, scope, rope, rotaryDim, true);
    }

    /** Turns the heads of x in place; the inverse is the gradient. */
    void apply(Tensor x, Sequences sequences, boolean inverse, Step step) {
        if (sequences.longest() <= longRowsAbove) {
            apply(table, x, sequences, sequences.longest(), sequences.positions(), inverse, step);
            return;
        }
        int[] offsets = sequences.offsets();
        for (int s = 0; s + 1 < offsets.length; s++) {
            int n = offsets[s + 1] - offsets[s];
            apply(
                    sequences.lengths()[s] > longRowsAbove ? longRows : table,
                    x.rows(offsets[s], n),
                    sequences,
                    sequences.lengths()[s],
                    sequences.positions().cols(offsets[s], n),
                    inverse,
                    step);
        }
    }

    private void apply(
            Table t, Tensor x, Sequences sequences, int length, Tensor positions, boolean inverse, Step step) {
        t.reach(sequences.longest(), length);
        step.ops().rope(x, t.cos, t.sin, positions, headDim, inverse);
    }

    /** Cosines and sines, grown on demand to the longest position asked for. */
    private static final class Table {
        private final Device device;
        private final Scope scope;
        private final RopeScaling rope;
        private final int rotaryDim;
        private final boolean ofLongRows;
        private Tensor cos;
        private Tensor sin;
        /** The length of row that the numbers are for, where that matters. */
        private int madeFor;

        Table(Device device, Scope scope, RopeScaling rope, int rotaryDim, boolean ofLongRows) {
            this.device = device;
            this.scope = scope;
            this.rope = rope;
            this.rotaryDim = rotaryDim;
            this.ofLongRows = ofLongRows;
            this.cos = scope.newPrecise(0, (rotaryDim + 1) / 2);
            this.sin = cos;
        }

        void reach(int positions, int length) {
            boolean others = ofLongRows && rope.changesWithLength() && length != madeFor;
            if (positions > cos.rows()) {
                // Doubling keeps what is left behind in the scope below the size of the last table.
                int rows = Math.max(positions, Math.max(512, 2 * cos.rows()));
                cos = scope.newPrecise(rows, cos.cols());
                sin = scope.newPrecise(rows, cos.cols());
            } else if (!others) {
                return;
            }
            madeFor = length;
            fill(ofLongRows ? rope.longInverseFrequencies(rotaryDim, length) : rope.inverseFrequencies(rotaryDim));
        }

        private void fill(float[] inverseFrequencies) {
            int half = inverseFrequencies.length;
            double factor = rope.attentionFactor();
            double[] c = new double[Math.multiplyExact(cos.rows(), half)];
            double[] s = new double[c.length];
            for (int p = 0; p < cos.rows(); p++) {
                for (int i = 0; i < half; i++) {
                    double angle = (double) inverseFrequencies[i] * p;
                    c[p * half + i] = Math.cos(angle) * factor;
                    s[p * half + i] = Math.sin(angle) * factor;
                }
            }
            device.upload(cos, c, 0);
            device.upload(sin, s, 0);
        }
    }
}
