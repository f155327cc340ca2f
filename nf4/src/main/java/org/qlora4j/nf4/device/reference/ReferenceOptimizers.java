package org.qlora4j.nf4.device.reference;

import static org.qlora4j.nf4.device.HostElements.get;
import static org.qlora4j.nf4.device.HostElements.set;

import java.lang.foreign.ValueLayout;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerState.EightBit;
import org.qlora4j.nf4.device.OptimizerState.Full;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.DynamicMap;

/** The formulas of {@link OptimizerRule}, element by element in double; 8-bit state is coded block by block. */
final class ReferenceOptimizers {
    private static final Blockwise8 SIGNED = new Blockwise8(DynamicMap.signed());
    private static final Blockwise8 UNSIGNED = new Blockwise8(DynamicMap.unsigned());

    private ReferenceOptimizers() {}

    static void step(Tensor p, Tensor g, OptimizerState state, OptimizerStep step) {
        int rows = state.state1().rows() + state.state2().rows();
        switch (state) {
            case Full full -> {
                double[] s = new double[rows];
                for (int i = 0; i < p.cols(); i++) {
                    for (int row = 0; row < rows; row++) {
                        s[row] = get(tensor(full, row), row(full, row), i);
                    }
                    set(p, 0, i, update(get(p, 0, i), get(g, 0, i) * step.gradientScale(), s, step, true));
                    for (int row = 0; row < rows; row++) {
                        set(tensor(full, row), row(full, row), i, s[row]);
                    }
                }
            }
            case EightBit eightBit -> eightBit(p, g, eightBit, step, rows);
        }
    }

    private static void eightBit(Tensor p, Tensor g, EightBit state, OptimizerStep step, int rows) {
        boolean table = state.rounding() == Blockwise8.Rule.TABLE;
        double[] s = new double[rows];
        for (int first = 0; first < p.cols(); first += OptimizerState.BLOCK_SIZE) {
            int n = Math.min(OptimizerState.BLOCK_SIZE, p.cols() - first);
            double[][] values = new double[rows][n];
            for (int i = 0; i < n; i++) {
                for (int row = 0; row < rows; row++) {
                    s[row] = decode(state, row, first + i);
                }
                int at = first + i;
                set(p, 0, at, update(get(p, 0, at), get(g, 0, at) * step.gradientScale(), s, step, table));
                for (int row = 0; row < rows; row++) {
                    values[row][i] = s[row];
                }
            }
            for (int row = 0; row < rows; row++) {
                encode(state, row, first, values[row]);
            }
        }
    }

    private static Tensor tensor(OptimizerState state, int row) {
        return row < state.state1().rows() ? state.state1() : state.state2();
    }

    private static int row(OptimizerState state, int row) {
        return row < state.state1().rows() ? row : row - state.state1().rows();
    }

    private static Tensor absmax(EightBit state, int row) {
        return row < state.state1().rows() ? state.absmax1() : state.absmax2();
    }

    private static Blockwise8 codes(EightBit state, int row) {
        return row < state.state1().rows() ? SIGNED : UNSIGNED;
    }

    private static double decode(EightBit state, int row, int i) {
        byte code = HostMemory.ALL.get(ValueLayout.JAVA_BYTE, tensor(state, row).rowAddress(row(state, row)) + i);
        double absmax = get(absmax(state, row), row(state, row), i / OptimizerState.BLOCK_SIZE);
        return codes(state, row).decode(code) * absmax;
    }

    private static void encode(EightBit state, int row, int first, double[] values) {
        double absmax = 0;
        for (double v : values) {
            absmax = Math.max(absmax, Math.abs(v));
        }
        set(absmax(state, row), row(state, row), first / OptimizerState.BLOCK_SIZE, absmax);
        boolean signed = row < state.state1().rows();
        long at = tensor(state, row).rowAddress(row(state, row)) + first;
        for (int i = 0; i < values.length; i++) {
            byte code = state.rounding() == Blockwise8.Rule.TABLE
                    ? codes(state, row).tableCode((float) (values[i] / absmax))
                    : nearest(codes(state, row), (float) (values[i] / absmax), values[i], signed);
            HostMemory.ALL.set(ValueLayout.JAVA_BYTE, at + i, code);
        }
    }

    /** bitsandbytes moves a code of the wrong sign by one towards the right one. */
    private static byte nearest(Blockwise8 rules, float v, double exact, boolean signed) {
        byte code = rules.nearestCode(v);
        boolean codeIsNegative = Float.floatToRawIntBits(rules.decode(code)) < 0;
        boolean valueIsNegative = Double.doubleToRawLongBits(exact) < 0;
        return signed && codeIsNegative != valueIsNegative ? (byte) (code + (exact > 0 ? 1 : -1)) : code;
    }

    /**
     * The new parameter; s becomes the new state.
     *
     * @param g the scaled gradient
     * @param s rows of state1, then of state2
     * @param decayedUpdate whether a coupled decay counts in the update of RMSprop and Adagrad
     */
    private static double update(double p, double g, double[] s, OptimizerStep step, boolean decayedUpdate) {
        double lr = step.learningRate();
        long t = step.step();
        double wd = step.rule().weightDecay();
        double decayed = g + wd * p;
        double numerator = decayedUpdate ? decayed : g;
        return switch (step.rule()) {
            case OptimizerRule.AdamW r -> {
                s[0] = r.beta1() * s[0] + (1 - r.beta1()) * g;
                s[1] = r.beta2() * s[1] + (1 - r.beta2()) * g * g;
                double denominator = Math.sqrt(s[1]) / Math.sqrt(1 - Math.pow(r.beta2(), t)) + r.epsilon();
                double change = lr / (1 - Math.pow(r.beta1(), t)) * s[0] / denominator;
                yield decoupled(p, change, lr * wd, r.decayFirst());
            }
            case OptimizerRule.AdEmaMix r -> {
                double beta3 = r.beta3At(t);
                s[0] = r.beta1() * s[0] + (1 - r.beta1()) * g;
                s[1] = beta3 * s[1] + (1 - beta3) * g;
                s[2] = r.beta2() * s[2] + (1 - r.beta2()) * g * g;
                double mean = s[0] / (1 - Math.pow(r.beta1(), t)) + r.alphaAt(t) * s[1];
                double denominator = Math.sqrt(s[2]) / Math.sqrt(1 - Math.pow(r.beta2(), t)) + r.epsilon();
                yield decoupled(p, lr * mean / denominator, lr * wd, r.decayFirst());
            }
            case OptimizerRule.Lion r -> {
                double direction = Math.signum(r.beta1() * s[0] + (1 - r.beta1()) * g);
                s[0] = r.beta2() * s[0] + (1 - r.beta2()) * g;
                yield decoupled(p, lr * direction, lr * wd, true);
            }
            case OptimizerRule.Sgd r -> {
                if (r.momentum() == 0) {
                    yield p - lr * decayed;
                }
                s[0] = t == 1 ? decayed : r.momentum() * s[0] + decayed;
                yield p - lr * s[0];
            }
            case OptimizerRule.RmsProp r -> {
                s[0] = r.alpha() * s[0] + (1 - r.alpha()) * decayed * decayed;
                yield p - lr * numerator / (Math.sqrt(s[0]) + r.epsilon());
            }
            case OptimizerRule.Adagrad r -> {
                s[0] += decayed * decayed;
                yield p - lr * numerator / (Math.sqrt(s[0]) + r.epsilon());
            }
        };
    }

    private static double decoupled(double p, double change, double decay, boolean first) {
        return first ? p * (1 - decay) - change : (p - change) * (1 - decay);
    }
}
