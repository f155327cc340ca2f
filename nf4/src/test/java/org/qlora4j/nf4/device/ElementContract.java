package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.stream.DoubleStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.device.TwoDevices.Pair;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

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

    /** The two gated activations. */
    enum Gated {
        SWIGLU {
            @Override
            void forward(Ops ops, Tensor y, Tensor gate, Tensor up) {
                ops.swiGlu(y, gate, up);
            }

            @Override
            void backward(Ops ops, Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
                ops.swiGluBackward(dGate, dUp, dy, gate, up);
            }
        },
        GEGLU {
            @Override
            void forward(Ops ops, Tensor y, Tensor gate, Tensor up) {
                ops.geGlu(y, gate, up);
            }

            @Override
            void backward(Ops ops, Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
                ops.geGluBackward(dGate, dUp, dy, gate, up);
            }
        };

        abstract void forward(Ops ops, Tensor y, Tensor gate, Tensor up);

        abstract void backward(Ops ops, Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up);
    }

    @ParameterizedTest
    @EnumSource(Gated.class)
    void gatedActivation(Gated gated) {
        forEach((rows, cols, scale, layout) -> {
            String what = gated + " " + rows + "x" + cols + " scale " + scale;
            Pair gate = both.random(rows, cols, scale, layout);
            Pair up = both.random(rows, cols, 1, layout);
            Pair y = both.garbage(rows, cols, layout);
            activation(gated, y, gate, up);
            both.assertClose(what, y, element);
            both.assertSame(what + " gate stays", gate);
            Pair gate2 = copy(gate, layout);
            activation(gated, gate2, gate2, up);
            both.assertClose(what + " in gate", gate2, element);
            Pair up2 = copy(up, layout);
            activation(gated, up2, gate, up2);
            both.assertClose(what + " in up", up2, element);
        });
    }

    private void activation(Gated gated, Pair y, Pair gate, Pair up) {
        gated.forward(both.ops(), y.mine(), gate.mine(), up.mine());
        gated.forward(both.referenceOps(), y.expected(), gate.expected(), up.expected());
    }

    private Pair copy(Pair pair, Layout layout) {
        return both.make(pair.mine().rows(), pair.mine().cols(), layout, both.values(pair.mine()));
    }

    private void gradients(Gated gated, Pair dGate, Pair dUp, Pair dy, Pair gate, Pair up) {
        gated.backward(both.ops(), dGate.mine(), dUp.mine(), dy.mine(), gate.mine(), up.mine());
        gated.backward(
                both.referenceOps(), dGate.expected(), dUp.expected(), dy.expected(), gate.expected(), up.expected());
    }

    @ParameterizedTest
    @CsvSource({
        "SWIGLU,apart", "SWIGLU,dGate=gate", "SWIGLU,dUp=up", "SWIGLU,both", "SWIGLU,dGate=dy",
        "GEGLU,apart", "GEGLU,dGate=gate", "GEGLU,dUp=up", "GEGLU,both", "GEGLU,dGate=dy"
    })
    void gatedActivationBackward(Gated gated, String alias) {
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
            gradients(gated, dGate, dUp, dy, gate, up);
            String what = gated + " backward " + alias + " " + rows + "x" + cols + " scale " + scale;
            both.assertClose(what + " dUp", dUp, element);
            both.assertClose(what + " dGate", dGate, Tolerances.gate(both.type(), scale));
        });
    }

    @ParameterizedTest
    @EnumSource(Gated.class)
    void gatedActivationOfExtremesIsFinite(Gated gated) {
        double[] extremes = {-1e4, -120, -88, -20, -0.0, 0, 1e-30, 20, 88, 120, 1e4};
        Pair gate = both.make(1, extremes.length, Layout.CONTIGUOUS, extremes);
        Pair up = both.random(1, extremes.length, 1, Layout.CONTIGUOUS);
        Pair y = both.garbage(1, extremes.length, Layout.CONTIGUOUS);
        activation(gated, y, gate, up);
        both.assertClose(gated + " of extremes", y, element);
        Pair dGate = both.garbage(1, extremes.length, Layout.CONTIGUOUS);
        Pair dUp = both.garbage(1, extremes.length, Layout.CONTIGUOUS);
        gradients(gated, dGate, dUp, up, gate, up);
        both.assertClose("dGate of extremes", dGate, element);
        both.assertClose("dUp of extremes", dUp, element);
    }

    @ParameterizedTest
    @ValueSource(doubles = {0.25, 3, 50})
    void softcap(double cap) {
        forEach((rows, cols, scale, layout) -> {
            String what = "softcap " + cap + " " + rows + "x" + cols + " scale " + scale;
            Pair x = both.random(rows, cols, scale, layout);
            Pair y = both.garbage(rows, cols, layout);
            both.ops().softcap(y.mine(), x.mine(), cap);
            both.referenceOps().softcap(y.expected(), x.expected(), cap);
            both.assertClose(what, y, element);
            Pair dy = both.random(rows, cols, 1, layout);
            Pair dx = both.garbage(rows, cols, layout);
            both.ops().softcapBackward(dx.mine(), dy.mine(), y.mine(), cap);
            both.referenceOps().softcapBackward(dx.expected(), dy.expected(), y.expected(), cap);
            // 1 − (y/cap)² of y near the cap is a difference of almost equal numbers
            double[] expected = both.values(dx.expected());
            double[] factor = both.values(dy.expected());
            double[] found = both.values(dx.mine());
            for (int i = 0; i < found.length; i++) {
                assertEquals(expected[i], found[i], 8 * element * Math.abs(factor[i]), what + " dx[" + i + "]");
            }
            both.ops().softcapBackward(dy.mine(), dy.mine(), y.mine(), cap);
            assertArrayEquals(found, both.values(dy.mine()), what + " dx in dy");
            both.ops().softcap(x.mine(), x.mine(), cap);
            assertArrayEquals(both.values(y.mine()), both.values(x.mine()), what + " in place");
        });
    }

    @Test
    void softcapOfSmallValuesKeepsTheirDigits() {
        double[] values = {1e-30, -1e-12, 1e-6, -1e-4, 1e-3, 0.01, -0.1, 0.5, 0.62, 0.63, 1, -5, 40, 1e4, -1e30, 0};
        for (double value : values) {
            Pair x = both.make(
                    1,
                    17,
                    Layout.CONTIGUOUS,
                    DoubleStream.generate(() -> value).limit(17).toArray());
            Pair y = both.garbage(1, 17, Layout.CONTIGUOUS);
            both.ops().softcap(y.mine(), x.mine(), 1);
            both.referenceOps().softcap(y.expected(), x.expected(), 1);
            both.assertClose("softcap of " + value, y, element);
        }
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
            Pair bias = both.preciseRandom(1, cols, scale, Layout.CONTIGUOUS);
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
            Pair factors = both.preciseRandom(1, cols, 1, Layout.CONTIGUOUS);
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
            Pair out = both.preciseRandom(1, cols, 1, Layout.CONTIGUOUS);
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
