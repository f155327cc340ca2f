package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;
import java.util.function.DoubleSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/** Every backward operation of the reference against central differences of its forward. */
class ReferenceGradientTest {
    private static final double STEP = 1e-3;
    private static final double TOLERANCE = 1e-7;

    private final SplittableRandom random = new SplittableRandom(7);
    private Device device;
    private Scope scope;
    private Ops ops;

    @BeforeEach
    void open() {
        device = new ReferenceDevice();
        scope = device.newScope();
        ops = device.ops();
    }

    @AfterEach
    void close() {
        scope.close();
        device.close();
    }

    private Tensor random(int rows, int cols) {
        double[] values = new double[rows * cols];
        for (int i = 0; i < values.length; i++) {
            values[i] = random.nextDouble(-1.5, 1.5);
        }
        Tensor t = scope.newTensor(rows, cols);
        device.upload(t, values, 0);
        return t;
    }

    private Tensor ints(int... values) {
        Tensor t = scope.newTensor(DType.I32, 1, values.length);
        device.upload(t, values, 0);
        return t;
    }

    private double[] values(Tensor t) {
        double[] values = new double[(int) t.numel()];
        device.download(t, values, 0);
        return values;
    }

    /** Σ y ⊙ dy: its gradient is what backward makes of dy. */
    private double weighted(Tensor y, Tensor dy) {
        double[] a = values(y);
        double[] b = values(dy);
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += a[i] * b[i];
        }
        return sum;
    }

    private void assertGradient(String name, Tensor x, Tensor gradient, DoubleSupplier loss) {
        double[] at = values(x);
        double[] got = values(gradient);
        double largest = 0;
        for (double g : got) {
            largest = Math.max(largest, Math.abs(g));
        }
        for (int i = 0; i < at.length; i++) {
            // five points: an error of step⁴, so that a step large enough for double's digits will do
            double expected = (8 * (moved(x, at, i, STEP, loss) - moved(x, at, i, -STEP, loss))
                            - (moved(x, at, i, 2 * STEP, loss) - moved(x, at, i, -2 * STEP, loss)))
                    / (12 * STEP);
            int index = i;
            assertTrue(
                    Math.abs(expected - got[i]) <= TOLERANCE * Math.max(Math.abs(expected), largest),
                    () -> name + "[" + index + "]: difference quotient " + expected + ", gradient " + got[index]);
        }
        device.upload(x, at, 0);
    }

    private double moved(Tensor x, double[] at, int i, double by, DoubleSupplier loss) {
        double[] values = at.clone();
        values[i] += by;
        device.upload(x, values, 0);
        return loss.getAsDouble();
    }

    @Test
    void rmsNorm() {
        Tensor x = random(3, 5);
        Tensor weight = random(1, 5);
        Tensor dy = random(3, 5);
        Tensor y = scope.newTensor(3, 5);
        Tensor rstd = scope.newTensor(1, 3);
        DoubleSupplier loss = () -> {
            ops.rmsNorm(y, rstd, x, weight, 1e-2);
            return weighted(y, dy);
        };
        assertTrue(Double.isFinite(loss.getAsDouble()));
        Tensor dx = scope.newTensor(3, 5);
        ops.rmsNormBackward(dx, dy, x, rstd, weight, 0);
        assertGradient("rmsNorm dx", x, dx, loss);

        assertTrue(Double.isFinite(loss.getAsDouble()));
        Tensor old = random(3, 5);
        Tensor sum = scope.newTensor(3, 5);
        ops.copy(sum, old);
        ops.rmsNormBackward(sum, dy, x, rstd, weight, 0.5);
        ops.add(sum, old, -0.5);
        assertGradient("rmsNorm dx with beta", x, sum, loss);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void topKSoftmax(boolean normalize) {
        Tensor x = random(4, 5);
        Tensor logits = scope.newTensor(4, 5);
        Tensor weights = scope.newTensor(4, 2);
        Tensor chosen = ints(new int[8]);
        Tensor dy = random(4, 2);
        DoubleSupplier loss = () -> {
            ops.copy(logits, x);
            ops.topKSoftmax(weights, chosen, logits, normalize);
            return weighted(weights, dy);
        };
        assertTrue(Double.isFinite(loss.getAsDouble()));
        Tensor dx = scope.newTensor(4, 5);
        ops.topKSoftmaxBackward(dx, dy, weights, chosen, logits, normalize);
        assertGradient("topKSoftmax", x, dx, loss);
    }

    @Test
    void rope() {
        Tensor x = random(3, 8);
        Tensor cos = scope.newTensor(4, 2);
        Tensor sin = scope.newTensor(4, 2);
        double[] c = new double[8];
        double[] s = new double[8];
        for (int i = 0; i < 8; i++) {
            c[i] = Math.cos(i * 0.7);
            s[i] = Math.sin(i * 0.7);
        }
        device.upload(cos, c, 0);
        device.upload(sin, s, 0);
        Tensor positions = ints(3, 0, 2);
        Tensor dy = random(3, 8);
        Tensor y = scope.newTensor(3, 8);
        Tensor dx = scope.newTensor(3, 8);
        ops.copy(dx, dy);
        ops.rope(dx, cos, sin, positions, 4, true);
        assertGradient("rope dx", x, dx, () -> {
            ops.copy(y, x);
            ops.rope(y, cos, sin, positions, 4, false);
            return weighted(y, dy);
        });
    }

    @ParameterizedTest
    @CsvSource({"0,0", "2,0", "0,1.5", "3,2"})
    void attention(int window, double softcap) {
        int[] offsets = {0, 1, 5, 8};
        AttentionShape shape = new AttentionShape(4, 2, 3, 0.6, window, softcap, offsets, offsets);
        Tensor q = random(8, 12);
        Tensor k = random(8, 6);
        Tensor v = random(8, 6);
        Tensor dOut = random(8, 12);
        Tensor out = scope.newTensor(8, 12);
        Tensor lse = scope.newTensor(4, 8);
        DoubleSupplier loss = () -> {
            ops.attention(out, lse, q, k, v, shape);
            return weighted(out, dOut);
        };
        assertTrue(Double.isFinite(loss.getAsDouble()));
        Tensor dq = scope.newTensor(8, 12);
        Tensor dk = scope.newTensor(8, 6);
        Tensor dv = scope.newTensor(8, 6);
        ops.attentionBackward(dq, dk, dv, dOut, out, lse, q, k, v, shape);
        assertGradient("dq", q, dq, loss);
        assertGradient("dk", k, dk, loss);
        assertGradient("dv", v, dv, loss);
    }

    @Test
    void geGlu() {
        Tensor gate = random(3, 4);
        Tensor up = random(3, 4);
        Tensor dy = random(3, 4);
        Tensor y = scope.newTensor(3, 4);
        Tensor dGate = scope.newTensor(3, 4);
        Tensor dUp = scope.newTensor(3, 4);
        ops.geGluBackward(dGate, dUp, dy, gate, up);
        DoubleSupplier loss = () -> {
            ops.geGlu(y, gate, up);
            return weighted(y, dy);
        };
        assertGradient("dGate", gate, dGate, loss);
        assertGradient("dUp", up, dUp, loss);
    }

    @Test
    void softcap() {
        Tensor x = random(3, 4);
        Tensor dy = random(3, 4);
        Tensor y = scope.newTensor(3, 4);
        Tensor dx = scope.newTensor(3, 4);
        ops.softcap(y, x, 1.3);
        ops.softcapBackward(dx, dy, y, 1.3);
        assertGradient("dx", x, dx, () -> {
            ops.softcap(y, x, 1.3);
            return weighted(y, dy);
        });
    }

    @Test
    void swiGlu() {
        Tensor gate = random(3, 4);
        Tensor up = random(3, 4);
        Tensor dy = random(3, 4);
        Tensor y = scope.newTensor(3, 4);
        Tensor dGate = scope.newTensor(3, 4);
        Tensor dUp = scope.newTensor(3, 4);
        ops.swiGluBackward(dGate, dUp, dy, gate, up);
        DoubleSupplier loss = () -> {
            ops.swiGlu(y, gate, up);
            return weighted(y, dy);
        };
        assertGradient("dGate", gate, dGate, loss);
        assertGradient("dUp", up, dUp, loss);
    }

    @ParameterizedTest
    @ValueSource(doubles = {0, 0.2})
    void crossEntropy(double smoothing) {
        Tensor logits = random(3, 6);
        Tensor labels = ints(0, 5, 2);
        Tensor losses = scope.newTensor(1, 3);
        Tensor correct = scope.newTensor(1, 3);
        Tensor gradient = scope.newTensor(3, 6);
        ops.copy(gradient, logits);
        ops.crossEntropy(losses, correct, gradient, labels, 0.3, smoothing);
        Tensor scale = scope.newTensor(1, 3);
        ops.fill(scale, 0.3);
        assertGradient("logits", logits, gradient, () -> {
            ops.crossEntropy(losses, correct, logits, labels, 0, smoothing);
            return weighted(losses, scale);
        });
    }

    @Test
    void dropout() {
        Tensor x = random(4, 5);
        Tensor dy = random(4, 5);
        Tensor y = scope.newTensor(4, 5);
        Tensor dx = scope.newTensor(4, 5);
        ops.dropout(dx, dy, 0.4, 99);
        assertGradient("dx", x, dx, () -> {
            ops.dropout(y, x, 0.4, 99);
            return weighted(y, dy);
        });
    }
}
