package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;
import java.util.function.DoubleSupplier;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** Backward of LoRA and DoRA against differences of the forward, in double. */
class LinearTest {
    private static final int N = 4;
    private static final int IN = 6;
    private static final int OUT = 5;
    private static final int RANK = 2;
    private static final double STEP = 1e-3;

    private final SplittableRandom random = new SplittableRandom(11);
    private Device device;
    private Scope scope;

    @BeforeEach
    void open() {
        device = Devices.open("reference", 1);
        scope = device.newScope();
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

    private Parameter parameter(String name, int rows, int cols) {
        Tensor gradient = scope.newTensor(rows, cols);
        device.ops().fill(gradient, 0);
        return new Parameter(name, random(rows, cols), gradient);
    }

    private double[] values(Tensor t) {
        double[] values = new double[(int) t.numel()];
        device.download(t, values, 0);
        return values;
    }

    /** A layer with everything but the adapter. */
    private Linear linear(boolean bias) {
        return new Linear("x", new Weight.Dense(random(OUT, IN)), bias ? random(1, OUT) : null);
    }

    private LoraWeights lora(boolean dora, double dropout) {
        LoraWeights.@Nullable Magnitude magnitude = dora
                ? new LoraWeights.Magnitude(parameter("m", 1, OUT), scope.newTensor(1, OUT), scope.newTensor(1, OUT))
                : null;
        return new LoraWeights(parameter("a", RANK, IN), parameter("b", OUT, RANK), 0.75, dropout, 3, magnitude, null);
    }

    @ParameterizedTest
    @CsvSource({"false,0,0", "false,0.4,0", "true,0,0", "true,0.4,0", "true,0,1", "true,0.4,0.5", "false,0.4,1"})
    void gradients(boolean dora, double dropout, double beta) {
        Linear linear = linear(true);
        LoraWeights l = lora(dora, dropout);
        linear.setLora(l);
        linear.update(device.ops());
        Tensor x = random(N, IN);
        Tensor before = random(N, OUT);
        Tensor dy = random(N, OUT);
        DoubleSupplier loss = () -> {
            try (Scope temporary = device.newScope()) {
                Step step = new Step(device.ops(), temporary, true, 99);
                Tensor y = step.newTensor(N, OUT);
                device.ops().copy(y, before);
                // DoRA's factors follow m; the norms stay: they are a constant for the gradient
                if (l.magnitude() != null) {
                    device.ops()
                            .scaleColumns(
                                    l.magnitude().factors(),
                                    l.magnitude().m().value(),
                                    l.magnitude().inverseNorms(),
                                    0);
                }
                linear.forward(y, x, beta, step);
                double sum = 0;
                double[] a = values(y);
                double[] b = values(dy);
                for (int i = 0; i < a.length; i++) {
                    sum += a[i] * b[i];
                }
                return sum;
            }
        };
        Step step = new Step(device.ops(), scope, true, 99);
        Tensor y = step.newTensor(N, OUT);
        device.ops().copy(y, before);
        Linear.Saved saved = linear.forward(y, x, beta, step);
        Tensor dx = random(N, IN);
        double[] old = values(dx);
        linear.backward(dx, 0.5, dy, x, saved, step);
        double[] dxValues = values(dx);
        for (int i = 0; i < old.length; i++) {
            dxValues[i] -= 0.5 * old[i];
        }
        assertGradient("dx", x, dxValues, loss);
        assertGradient("dA", l.a().value(), values(l.a().gradient()), loss);
        assertGradient("dB", l.b().value(), values(l.b().gradient()), loss);
        if (l.magnitude() != null) {
            Parameter m = l.magnitude().m();
            assertGradient("dm", m.value(), values(m.gradient()), loss);
        }

        // gradients add; without dx the others are the same
        linear.update(device.ops());
        double[] once = values(l.a().gradient());
        linear.backward(null, 0, dy, x, linear.saved(x, step), step);
        double[] twice = values(l.a().gradient());
        for (int i = 0; i < once.length; i++) {
            assertEquals(2 * once[i], twice[i], 1e-12 * Math.abs(once[i]) + 1e-15);
        }
    }

    private void assertGradient(String name, Tensor x, double[] got, DoubleSupplier loss) {
        double[] at = values(x);
        for (int i = 0; i < at.length; i++) {
            double expected = (moved(x, at, i, STEP, loss) - moved(x, at, i, -STEP, loss)) / (2 * STEP);
            assertEquals(expected, got[i], 1e-8 * Math.max(1, Math.abs(expected)), name + "[" + i + "]");
        }
        device.upload(x, at, 0);
    }

    private double moved(Tensor x, double[] at, int i, double by, DoubleSupplier loss) {
        double[] moved = at.clone();
        moved[i] += by;
        device.upload(x, moved, 0);
        return loss.getAsDouble();
    }

    @Test
    void doraSetsTheLengthsOfTheRows() {
        Linear linear = linear(true);
        LoraWeights l = lora(true, 0.3);
        linear.setLora(l);
        linear.update(device.ops());
        Step step = new Step(device.ops(), scope, false, 0);
        Tensor x = random(N, IN);
        Tensor y = step.newTensor(N, OUT);
        linear.forward(y, x, 0, step);

        double[] w = values(((Weight.Dense) linear.frozen()).values());
        double[] a = values(l.a().value());
        double[] b = values(l.b().value());
        double[] m = values(l.magnitude().m().value());
        double[] bias = values(linear.bias());
        double[] xs = values(x);
        double[] expected = new double[N * OUT];
        for (int o = 0; o < OUT; o++) {
            double[] row = new double[IN];
            double squares = 0;
            for (int i = 0; i < IN; i++) {
                row[i] = w[o * IN + i];
                for (int k = 0; k < RANK; k++) {
                    row[i] += 0.75 * b[o * RANK + k] * a[k * IN + i];
                }
                squares += row[i] * row[i];
            }
            for (int t = 0; t < N; t++) {
                double dot = 0;
                for (int i = 0; i < IN; i++) {
                    dot += row[i] * xs[t * IN + i];
                }
                expected[t * OUT + o] = bias[o] + m[o] / Math.sqrt(squares) * dot;
            }
        }
        assertArrayEquals(expected, values(y), 1e-12);
    }

    @Test
    void theMagnitudeFollowsItsParameters() {
        Linear linear = linear(false);
        LoraWeights l = lora(true, 0);
        linear.setLora(l);
        linear.update(device.ops());
        double[] first = values(l.magnitude().factors());
        device.ops().fill(l.b().value(), 0);
        linear.update(device.ops());
        double[] second = values(l.magnitude().factors());
        assertTrue(Math.abs(first[0] - second[0]) > 1e-6);
    }
}
