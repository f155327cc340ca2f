package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.nf4.device.cuda.BitsAndBytesLaunch.at;

import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.qlora4j.bindings.CudaBitsAndBytes;
import org.qlora4j.bindings.CudaBitsAndBytes.Rule;
import org.qlora4j.bindings.CudaBitsAndBytes.State8;
import org.qlora4j.bindings.CudaBitsAndBytes.Step;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState.EightBit;
import org.qlora4j.nf4.device.OptimizerState.Full;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.DynamicMap;

/**
 * libbitsandbytes' own CUDA library on a simulated runtime, optimizers: the kernel that arrives for each function, its
 * grid, stream and arguments are what is meant, and a step is the reference device's step.
 */
class BitsAndBytesOptimizersTest {
    private static final float EPSILON = 1e-8f;
    private static final float DECAY = 0.1f;
    private static final float LEARNING_RATE = 0.01f;
    private static final float SCALE = 0.7f;

    private final SplittableRandom random = new SplittableRandom(5);

    /** The library's number of a rule. */
    private static int number(Rule rule) {
        return switch (rule) {
            case ADAM -> 0;
            case MOMENTUM -> 1;
            case RMSPROP -> 2;
            case ADAGRAD -> 4;
            case LION -> 5;
            case ADEMAMIX -> 6;
        };
    }

    private static OptimizerRule reference(Rule rule) {
        // from the fp32 numbers that the library gets
        double decay = DECAY;
        return switch (rule) {
            case ADAM -> new OptimizerRule.AdamW(0.9f, 0.99f, EPSILON, decay, false);
            case ADEMAMIX -> new OptimizerRule.AdEmaMix(0.9f, 0.99f, 0.999f, 5, EPSILON, decay, 0, 0, false);
            case LION -> new OptimizerRule.Lion(0.9f, 0.99f, decay);
            case MOMENTUM -> new OptimizerRule.Sgd(0.9f, decay);
            case RMSPROP -> new OptimizerRule.RmsProp(0.9f, EPSILON, decay);
            case ADAGRAD -> new OptimizerRule.Adagrad(EPSILON, decay);
        };
    }

    private static Step numbers(int step, float scale) {
        return new Step(0.9f, 0.99f, 0.999f, 5, EPSILON, DECAY, step, LEARNING_RATE, scale);
    }

    private static OptimizerStep referenceStep(Rule rule, int step, float scale) {
        return new OptimizerStep(reference(rule), step, LEARNING_RATE, scale);
    }

    private float[] values(int n) {
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    /**
     * Of the parameters' signs, so that a gradient and the decay that is added to it do not cancel to rounding noise.
     */
    private float[] gradient(float[] p) {
        float[] values = values(p.length);
        for (int i = 0; i < p.length; i++) {
            values[i] = Math.copySign(values[i], p[i]);
        }
        return values;
    }

    @ParameterizedTest
    @EnumSource(Rule.class)
    void step32(Rule rule) {
        int rows = rule == Rule.ADEMAMIX ? 2 : 1;
        for (int n : new int[] {1, 1000, 4096, 8193}) {
            try (TestGpu gpu = new TestGpu();
                    ReferenceDevice device = new ReferenceDevice();
                    Scope scope = device.newScope()) {
                long p = gpu.upload(values(n));
                long state1 = gpu.upload(new float[rows * n]);
                long state2 = rule.hasState2() ? gpu.upload(new float[n]) : 0;
                for (int t = 1; t <= 3; t++) {
                    float[] gradient = gradient(gpu.floats(p, n));
                    long g = gpu.upload(gradient);
                    // the reference starts each step from the bits of the GPU
                    Tensor expected = tensor(device, scope, 1, gpu.floats(p, n));
                    Full state = new Full(
                            tensor(device, scope, rows, gpu.floats(state1, rows * n)),
                            rule.hasState2()
                                    ? tensor(device, scope, 1, gpu.floats(state2, n))
                                    : scope.newPrecise(0, n));
                    CudaBitsAndBytes.step32(rule, p, g, state1, state2, numbers(t, SCALE), n);
                    check32(rule, p, g, state1, state2, t, n);
                    device.ops()
                            .optimizerStep(
                                    expected, tensor(device, scope, 1, gradient), state, referenceStep(rule, t, SCALE));
                    String what = rule + " n " + n + " step " + t;
                    assertClose(what + " p", expected, gpu.floats(p, n));
                    assertClose(what + " state1", state.state1(), gpu.floats(state1, rows * n));
                    if (rule.hasState2()) {
                        assertClose(what + " state2", state.state2(), gpu.floats(state2, n));
                    }
                }
            }
        }
    }

    private static void check32(Rule rule, long p, long g, long state1, long state2, int t, int n) {
        BitsAndBytesLaunch launch = BitsAndBytesLaunch.last();
        String grid = (n + 4095) / 4096 + " 1 1";
        if (rule.hasState2()) {
            launch.check(
                    "kOptimizer32bit2State<float, " + number(rule) + ">",
                    grid,
                    "1024 1 1",
                    0,
                    at(g),
                    at(p),
                    at(state1),
                    at(state2),
                    at(0),
                    0f,
                    0f,
                    0.9f,
                    0.99f,
                    0.999f,
                    5f,
                    EPSILON,
                    DECAY,
                    t,
                    LEARNING_RATE,
                    SCALE,
                    false,
                    n);
        } else {
            launch.check(
                    "kOptimizer32bit1State<float, " + number(rule) + ">",
                    grid,
                    "1024 1 1",
                    0,
                    at(g),
                    at(p),
                    at(state1),
                    at(0),
                    0f,
                    0f,
                    0.9f,
                    0.99f,
                    EPSILON,
                    DECAY,
                    t,
                    LEARNING_RATE,
                    SCALE,
                    false,
                    n);
        }
    }

    @ParameterizedTest
    @EnumSource(Rule.class)
    void step8(Rule rule) {
        // AdEMAMix needs whole blocks, see below
        int[] counts = rule == Rule.ADEMAMIX ? new int[] {256, 1024} : new int[] {1, 255, 256, 1000};
        // RMSprop and Adagrad would take the scale into the state only
        float scale = rule == Rule.RMSPROP || rule == Rule.ADAGRAD ? 1 : SCALE;
        for (int n : counts) {
            try (TestGpu gpu = new TestGpu();
                    ReferenceDevice device = new ReferenceDevice();
                    Scope scope = device.newScope()) {
                long p = gpu.upload(values(n));
                Codes state1 = new Codes(gpu, rule == Rule.ADEMAMIX ? 2 : 1, n, DynamicMap.signed());
                Codes state2 = new Codes(gpu, rule.hasState2() ? 1 : 0, n, DynamicMap.unsigned());
                for (int t = 1; t <= 3; t++) {
                    float[] gradient = gradient(gpu.floats(p, n));
                    long g = gpu.upload(gradient);
                    Tensor expected = tensor(device, scope, 1, gpu.floats(p, n));
                    EightBit state = new EightBit(
                            state1.codes(device, scope),
                            state1.absmax(device, scope),
                            state2.codes(device, scope),
                            state2.absmax(device, scope),
                            Blockwise8.Rule.NEAREST);
                    CudaBitsAndBytes.step8(
                            rule,
                            p,
                            g,
                            new State8(
                                    state1.codes, state1.absmax, state1.map, state2.codes, state2.absmax, state2.map),
                            numbers(t, scale),
                            n);
                    check8(rule, p, g, state1, state2, t, scale, n);
                    device.ops()
                            .optimizerStep(
                                    expected, tensor(device, scope, 1, gradient), state, referenceStep(rule, t, scale));
                    String what = rule + " n " + n + " step " + t;
                    assertClose(what + " p", expected, gpu.floats(p, n));
                    state1.assertSame(what + " state1", device, state.state1(), state.absmax1());
                    state2.assertSame(what + " state2", device, state.state2(), state.absmax2());
                }
            }
        }
    }

    private static void check8(Rule rule, long p, long g, Codes state1, Codes state2, int t, float scale, int n) {
        BitsAndBytesLaunch launch = BitsAndBytesLaunch.last();
        String grid = (n + 255) / 256 + " 1 1";
        if (rule.hasState2()) {
            launch.check(
                    "kOptimizerStatic8bit2StateBlockwise<float, " + number(rule) + ", 256, 1>",
                    grid,
                    "256 1 1",
                    0,
                    at(p),
                    at(g),
                    at(state1.codes),
                    at(state2.codes),
                    0.9f,
                    0.99f,
                    0.999f,
                    5f,
                    EPSILON,
                    t,
                    LEARNING_RATE,
                    at(state1.map),
                    at(state2.map),
                    at(state1.absmax),
                    at(state2.absmax),
                    DECAY,
                    scale,
                    false,
                    n);
        } else {
            launch.check(
                    "kOptimizerStatic8bit1StateBlockwise<float, " + number(rule) + ", 256, 1>",
                    grid,
                    "256 1 1",
                    0,
                    at(p),
                    at(g),
                    at(state1.codes),
                    0.9f,
                    0.99f,
                    EPSILON,
                    t,
                    LEARNING_RATE,
                    at(state1.map),
                    at(state1.absmax),
                    DECAY,
                    scale,
                    false,
                    n);
        }
    }

    /**
     * Scales of AdEMAMix's second average begin at n / 256, rounded down: with 300 parameters the first of them would
     * be the second one of the first average. Such a step is not given to the library.
     */
    @Test
    void adEmaMixNeedsWholeBlocks() {
        int n = 300;
        try (TestGpu gpu = new TestGpu()) {
            long p = gpu.upload(values(n));
            long g = gpu.upload(values(n));
            Codes state1 = new Codes(gpu, 2, n, DynamicMap.signed());
            Codes state2 = new Codes(gpu, 1, n, DynamicMap.unsigned());
            State8 state = new State8(state1.codes, state1.absmax, state1.map, state2.codes, state2.absmax, state2.map);
            assertThrows(
                    IllegalArgumentException.class,
                    () -> CudaBitsAndBytes.step8(Rule.ADEMAMIX, p, g, state, numbers(1, 1), n));
        }
    }

    /** A gradient that is no number leaves its parameter alone and empties its state. */
    @Test
    void eightBitStateLeavesOutWhatIsNotFinite() {
        try (TestGpu gpu = new TestGpu()) {
            long p = gpu.upload(1, 2, 3, 4);
            long g = gpu.upload(1, Float.NaN, Float.POSITIVE_INFINITY, -1);
            Codes state1 = new Codes(gpu, 1, 4, DynamicMap.signed());
            Codes state2 = new Codes(gpu, 1, 4, DynamicMap.unsigned());
            CudaBitsAndBytes.step8(
                    Rule.ADAM,
                    p,
                    g,
                    new State8(state1.codes, state1.absmax, state1.map, state2.codes, state2.absmax, state2.map),
                    numbers(1, 1),
                    4);
            float[] after = gpu.floats(p, 4);
            assertArrayEquals(new float[] {2, 3}, new float[] {after[1], after[2]});
            assertTrue(after[0] < 1 && after[3] > 3.98f && after[3] != 4, after[0] + " and " + after[3]);
            byte zero = 127;
            byte[] codes = gpu.bytes(state1.codes, 4);
            assertArrayEquals(new byte[] {-1, zero, zero, 0}, codes);
        }
    }

    /** 8-bit state on the GPU, zeros at first; rows 0 is a state the rule has not. */
    private static final class Codes {
        final TestGpu gpu;
        final int rows;
        final int n;
        final int blocks;
        final long codes;
        final long absmax;
        final long map;

        Codes(TestGpu gpu, int rows, int n, float[] map) {
            this.gpu = gpu;
            this.rows = rows;
            this.n = n;
            this.blocks = (n + 255) / 256;
            this.codes = rows == 0 ? 0 : gpu.upload(new byte[rows * n]);
            this.absmax = rows == 0 ? 0 : gpu.upload(new float[rows * blocks]);
            this.map = rows == 0 ? 0 : gpu.upload(map);
        }

        Tensor codes(ReferenceDevice device, Scope scope) {
            Tensor t = scope.newTensor(DType.U8, rows, n);
            if (rows > 0) {
                device.upload(t, gpu.bytes(codes, rows * n), 0);
            }
            return t;
        }

        Tensor absmax(ReferenceDevice device, Scope scope) {
            Tensor t = scope.newTensor(DType.F32, rows, blocks);
            if (rows > 0) {
                device.upload(t, gpu.floats(absmax, rows * blocks), 0);
            }
            return t;
        }

        /** Equal up to few codes that rounding tipped over to their neighbour. */
        void assertSame(String what, ReferenceDevice device, Tensor expectedCodes, Tensor expectedAbsmax) {
            if (rows == 0) {
                return;
            }
            float[] scales = new float[rows * blocks];
            device.download(expectedAbsmax, scales, 0);
            float[] mine = gpu.floats(absmax, rows * blocks);
            for (int i = 0; i < scales.length; i++) {
                assertEquals(scales[i], mine[i], scales[i] * 1e-6, what + " absmax " + i);
            }
            byte[] expected = new byte[rows * n];
            device.download(expectedCodes, expected, 0);
            byte[] got = gpu.bytes(codes, rows * n);
            int other = 0;
            for (int i = 0; i < expected.length; i++) {
                if (expected[i] != got[i]) {
                    other++;
                    assertEquals(1, Math.abs((expected[i] & 0xFF) - (got[i] & 0xFF)), what + " code " + i);
                }
            }
            assertTrue(other <= 1 + n / 1000, what + ": " + other + " other codes");
        }
    }

    private static Tensor tensor(ReferenceDevice device, Scope scope, int rows, float[] values) {
        Tensor t = scope.newPrecise(rows, values.length / rows);
        device.upload(t, values, 0);
        return t;
    }

    /** One step in fp32: eight roundings of the largest value. */
    private static void assertClose(String what, Tensor expected, float[] got) {
        double[] exact = new double[got.length];
        new ReferenceDevice().download(expected, exact, 0);
        double largest = 0;
        for (double v : exact) {
            largest = Math.max(largest, Math.abs(v));
        }
        for (int i = 0; i < got.length; i++) {
            assertEquals(exact[i], got[i], 8 * Math.ulp((float) largest), what + " " + i);
        }
    }
}
