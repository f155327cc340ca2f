package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.device.TwoDevices.Pair;
import org.qlora4j.nf4.tensor.DType;

/** Elementwise operations: activation, dropout, sums, casts, the optimizer. */
abstract class ElementContract extends RowContract {
    @FunctionalInterface
    private interface Case {
        void run(int rows, int cols, double scale, Layout layout);
    }

    /** Odd sizes in both layouts, one long row, every scale. */
    private static void forEach(Case test) {
        for (int i = 0; i < SIZES.length; i++) {
            test.run(SIZES[(i * 3 + 1) % SIZES.length], SIZES[i], 1, layout(i));
        }
        test.run(1, 20_011, 1, Layout.CONTIGUOUS);
        test.run(150, 67, 1, Layout.STRIDED);
        for (double scale : SCALES) {
            test.run(5, 31, scale, Layout.CONTIGUOUS);
        }
    }

    @Test
    void swiGlu() {
        forEach((rows, cols, scale, layout) -> {
            String what = "swiGlu " + rows + "x" + cols + " scale " + scale;
            Pair gate = both.random(rows, cols, scale, layout);
            Pair up = both.random(rows, cols, 1, layout);
            Pair y = both.garbage(rows, cols, layout);
            activation(y, gate, up);
            both.assertClose(what, y, element);
            both.assertSame(what + " gate stays", gate);
            Pair gate2 = copy(gate, layout);
            activation(gate2, gate2, up);
            both.assertClose(what + " in gate", gate2, element);
            Pair up2 = copy(up, layout);
            activation(up2, gate, up2);
            both.assertClose(what + " in up", up2, element);
        });
    }

    private void activation(Pair y, Pair gate, Pair up) {
        both.ops().swiGlu(y.mine(), gate.mine(), up.mine());
        both.referenceOps().swiGlu(y.expected(), gate.expected(), up.expected());
    }

    private Pair copy(Pair pair, Layout layout) {
        return both.make(pair.mine().rows(), pair.mine().cols(), layout, both.values(pair.mine()));
    }

    @ParameterizedTest
    @ValueSource(strings = {"apart", "dGate=gate", "dUp=up", "both", "dGate=dy"})
    void swiGluBackward(String alias) {
        forEach((rows, cols, scale, layout) -> {
            Pair gate = both.random(rows, cols, scale, layout);
            Pair up = both.random(rows, cols, 1, layout);
            Pair dy = both.random(rows, cols, 1, layout);
            Pair dGate = switch (alias) {
                case "dGate=gate", "both" -> gate;
                case "dGate=dy" -> dy;
                default -> both.garbage(rows, cols, layout);
            };
            Pair dUp = alias.equals("dUp=up") || alias.equals("both") ? up : both.garbage(rows, cols, layout);
            both.ops().swiGluBackward(dGate.mine(), dUp.mine(), dy.mine(), gate.mine(), up.mine());
            both.referenceOps()
                    .swiGluBackward(dGate.expected(), dUp.expected(), dy.expected(), gate.expected(), up.expected());
            String what = "swiGluBackward " + alias + " " + rows + "x" + cols + " scale " + scale;
            both.assertClose(what + " dUp", dUp, element);
            both.assertClose(what + " dGate", dGate, Tolerances.gate(both.type(), scale));
        });
    }

    @Test
    void swiGluOfExtremesIsFinite() {
        double[] extremes = {-1e4, -120, -88, -20, -0.0, 0, 1e-30, 20, 88, 120, 1e4};
        Pair gate = both.make(1, extremes.length, Layout.CONTIGUOUS, extremes);
        Pair up = both.random(1, extremes.length, 1, Layout.CONTIGUOUS);
        Pair y = both.garbage(1, extremes.length, Layout.CONTIGUOUS);
        activation(y, gate, up);
        both.assertClose("swiGlu of extremes", y, element);
        Pair dGate = both.garbage(1, extremes.length, Layout.CONTIGUOUS);
        Pair dUp = both.garbage(1, extremes.length, Layout.CONTIGUOUS);
        both.ops().swiGluBackward(dGate.mine(), dUp.mine(), up.mine(), gate.mine(), up.mine());
        both.referenceOps()
                .swiGluBackward(dGate.expected(), dUp.expected(), up.expected(), gate.expected(), up.expected());
        both.assertClose("dGate of extremes", dGate, element);
        both.assertClose("dUp of extremes", dUp, element);
    }

    @ParameterizedTest
    @ValueSource(doubles = {0, 0.05, 0.5, 0.999})
    void dropout(double p) {
        for (long seed : new long[] {0, -1, 0x1234_5678_9ABCL}) {
            forEach((rows, cols, scale, layout) -> {
                String what = "dropout p " + p + " seed " + seed + " " + rows + "x" + cols;
                Pair x = both.random(rows, cols, scale, layout);
                Pair y = both.garbage(rows, cols, layout);
                both.ops().dropout(y.mine(), x.mine(), p, seed);
                both.referenceOps().dropout(y.expected(), x.expected(), p, seed);
                both.assertClose(what, y, element);
                both.ops().dropout(x.mine(), x.mine(), p, seed);
                assertArrayEquals(both.values(y.mine()), both.values(x.mine()), what + " in place");
            });
        }
    }

    @Test
    void addAndBiasAndFill() {
        forEach((rows, cols, scale, layout) -> {
            String what = rows + "x" + cols + " scale " + scale;
            Pair y = both.random(rows, cols, 1, layout);
            Pair x = both.random(rows, cols, scale, layout);
            both.ops().add(y.mine(), x.mine(), -0.3);
            both.referenceOps().add(y.expected(), x.expected(), -0.3);
            both.assertClose("add " + what, y, element);
            Pair bias = both.random(1, cols, scale, Layout.CONTIGUOUS);
            both.ops().addBias(y.mine(), bias.mine());
            both.referenceOps().addBias(y.expected(), bias.expected());
            both.assertClose("addBias " + what, y, element);
            for (double value : new double[] {0, -2.5, 1.0 / 3}) {
                Pair filled = both.garbage(rows, cols, layout);
                both.ops().fill(filled.mine(), value);
                both.referenceOps().fill(filled.expected(), value);
                both.assertSame("fill " + value + " " + what, filled);
            }
        });
    }

    @Test
    void scaleColumns() {
        forEach((rows, cols, scale, layout) -> {
            String what = "scaleColumns " + rows + "x" + cols + " scale " + scale;
            Pair x = both.random(rows, cols, scale, layout);
            Pair factors = both.random(1, cols, 1, Layout.CONTIGUOUS);
            for (double beta : new double[] {0, 1, -0.5}) {
                Pair y = beta == 0 ? both.garbage(rows, cols, layout) : both.random(rows, cols, 1, layout);
                both.ops().scaleColumns(y.mine(), x.mine(), factors.mine(), beta);
                both.referenceOps().scaleColumns(y.expected(), x.expected(), factors.expected(), beta);
                both.assertClose(what + " beta " + beta, y, element);
            }
            both.ops().scaleColumns(x.mine(), x.mine(), factors.mine(), 0);
            both.referenceOps().scaleColumns(x.expected(), x.expected(), factors.expected(), 0);
            both.assertClose(what + " in place", x, element);
        });
    }

    @Test
    void columnDots() {
        forEach((rows, cols, scale, layout) -> {
            Pair a = both.random(rows, cols, scale, layout);
            Pair b = both.random(rows, cols, 1, layout);
            Pair out = both.random(1, cols, 1, Layout.CONTIGUOUS);
            both.ops().columnDots(out.mine(), a.mine(), b.mine());
            both.referenceOps().columnDots(out.expected(), a.expected(), b.expected());
            both.assertClose("columnDots " + rows + "x" + cols + " scale " + scale, out, sum(rows));
        });
    }

    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"F32", "BF16", "F16"})
    void copyRoundsToNearestEven(DType type) {
        forEach((rows, cols, scale, layout) -> {
            String what = "copy to " + type + " " + rows + "x" + cols + " scale " + scale;
            Pair x = both.random(rows, cols, scale, layout);
            Pair narrow = both.make(type, rows, cols, layout, new double[rows * cols]);
            both.ops().copy(narrow.mine(), x.mine());
            both.referenceOps().copy(narrow.expected(), x.expected());
            both.assertSame(what, narrow);
            Pair wide = both.garbage(rows, cols, layout);
            both.ops().copy(wide.mine(), narrow.mine());
            both.referenceOps().copy(wide.expected(), narrow.expected());
            both.assertSame(what + " and back", wide);
        });
    }

    @Test
    void copyOfTiesAndSpecials() {
        double[] values = {
            1 + 0x1p-8,
            1 + 0x3p-8,
            -(1 + 0x1p-8),
            1 + 0x1p-8 + 0x1p-20,
            0,
            1e-40,
            3e38,
            Double.POSITIVE_INFINITY,
            -7,
            0x1p-126
        };
        Pair x = both.make(1, values.length, Layout.CONTIGUOUS, values);
        Pair narrow = both.make(DType.BF16, 1, values.length, Layout.CONTIGUOUS, new double[values.length]);
        both.ops().copy(narrow.mine(), x.mine());
        both.referenceOps().copy(narrow.expected(), x.expected());
        both.assertSame("ties", narrow);
        assertArrayEquals(new double[] {1, 1 + 0x1p-6, -1, 1 + 0x1p-7}, Arrays.copyOf(both.values(narrow.mine()), 4));
        Pair nan = both.make(1, 2, Layout.CONTIGUOUS, new double[] {Double.NaN, -Double.NaN});
        Pair narrowNan = both.make(DType.BF16, 1, 2, Layout.CONTIGUOUS, new double[2]);
        both.ops().copy(narrowNan.mine(), nan.mine());
        assertArrayEquals(new double[] {Double.NaN, Double.NaN}, both.values(narrowNan.mine()));
    }
}
