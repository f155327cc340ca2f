package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** Values computed by hand: the reference is what the others are measured with, so it needs a second opinion. */
class ReferenceOpsTest {
    private static final double EXACT = 1e-14;

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

    private Tensor t(int rows, int cols, double... values) {
        Tensor t = scope.newTensor(rows, cols);
        device.upload(t, values, 0);
        return t;
    }

    private Tensor ints(int... values) {
        Tensor t = scope.newTensor(DType.I32, 1, values.length);
        device.upload(t, values, 0);
        return t;
    }

    private Tensor bytes(int... values) {
        Tensor t = scope.newTensor(DType.U8, 1, values.length);
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) values[i];
        }
        device.upload(t, bytes, 0);
        return t;
    }

    private Tensor f32(float... values) {
        Tensor t = scope.newTensor(DType.F32, 1, values.length);
        device.upload(t, values, 0);
        return t;
    }

    private void assertValues(Tensor t, double... expected) {
        double[] got = new double[(int) t.numel()];
        device.download(t, got, 0);
        assertArrayEquals(expected, got, EXACT, Arrays.toString(got));
    }

    @Test
    void newTensorsAreNaN() {
        assertValues(scope.newTensor(1, 2), Double.NaN, Double.NaN);
    }

    @Test
    void matmul() {
        Tensor a = t(2, 3, 1, 2, 3, 4, 5, 6);
        Tensor b = t(3, 2, 1, 0, -1, 2, 0.5, 1);
        Tensor out = scope.newTensor(2, 2);
        ops.matmul(out, a, false, b, false, 1, 0);
        assertValues(out, 0.5, 7, 2, 16);
        ops.matmul(out, a, false, b, false, 2, 0.5);
        assertValues(out, 1.25, 17.5, 5, 40);
        Tensor gram = scope.newTensor(3, 3);
        ops.matmul(gram, a, true, a, false, 1, 0);
        assertValues(gram, 17, 22, 27, 22, 29, 36, 27, 36, 45);
        ops.matmul(gram, b, false, a, false, 1, 0);
        assertValues(gram, 1, 2, 3, 7, 8, 9, 4.5, 6, 7.5);
        ops.matmul(out, a, false, a, true, 1, 0);
        assertValues(out, 14, 32, 32, 77);
        Tensor both = scope.newTensor(3, 3);
        ops.matmul(both, a, true, b, true, 1, 0);
        assertValues(both, 1, 7, 4.5, 2, 8, 6, 3, 9, 7.5);
    }

    @Test
    void nf4Weights() {
        // codes 0, 15 | 7, 1 | 14: one block of 32 holds all five
        Tensor packed = bytes(0x0F, 0x71, 0xE0);
        Weight w = new Weight.Quantized(QuantType.NF4, 32, 1, 5, packed, new Weight.AbsMax.Plain(f32(0.5f)));
        Tensor out = scope.newTensor(1, 5);
        ops.dequantize(out, w);
        assertValues(out, -0.5, 0.5, 0, -0.6961928009986877f * 0.5f, 0.7229568362236023f * 0.5f);
        Tensor y = scope.newTensor(1, 1);
        ops.matmul(y, t(1, 5, 1, 2, 3, 0, 0), w, true, 0);
        assertValues(y, 0.5);
        Tensor dx = scope.newTensor(1, 5);
        ops.matmul(dx, t(1, 1, 2), w, false, 0);
        assertValues(dx, -1, 1, 0, -0.6961928009986877f, 0.7229568362236023f);
        ops.matmul(y, t(1, 5, 1, 2, 3, 0, 0), w, true, 2);
        assertValues(y, 1.5);
    }

    @Test
    void fp4WeightsWithABlockOverTwoRows() {
        int[] codes = new int[32];
        Arrays.fill(codes, 0x33);
        // 3 = 1.0 in FP4; 64 elements in two blocks of two rows each
        Weight w = new Weight.Quantized(QuantType.FP4, 32, 4, 16, bytes(codes), new Weight.AbsMax.Plain(f32(1, 2)));
        Tensor out = scope.newTensor(4, 16);
        ops.dequantize(out, w);
        double[] expected = new double[64];
        Arrays.fill(expected, 0, 32, 1);
        Arrays.fill(expected, 32, 64, 2);
        assertValues(out, expected);
    }

    @Test
    void nestedScalesRoundTwice() {
        float[] map = new float[256];
        // with these, a fused multiply and add would give 0.123f
        map[200] = 0.01f;
        Tensor codes = bytes(200);
        Weight w = new Weight.Quantized(
                QuantType.NF4, 64, 1, 1, bytes(0xF0), new Weight.AbsMax.Nested(codes, f32(2.3f), f32(map), 256, 0.1f));
        Tensor out = scope.newTensor(1, 1);
        ops.dequantize(out, w);
        assertValues(out, 0.122999996f);
    }

    @Test
    void nestedScalesOfSeveralSecondBlocks() {
        float[] map = new float[256];
        Arrays.fill(map, 0.5f);
        int[] ones = new int[48];
        Arrays.fill(ones, 0xFF);
        // three blocks of 32, two of them per second-level scale
        Weight w = new Weight.Quantized(
                QuantType.NF4,
                32,
                3,
                32,
                bytes(ones),
                new Weight.AbsMax.Nested(bytes(0, 1, 2), f32(2, 4), f32(map), 2, 1));
        Tensor out = scope.newTensor(3, 32);
        ops.dequantize(out, w);
        double[] expected = new double[96];
        Arrays.fill(expected, 0, 64, 2);
        Arrays.fill(expected, 64, 96, 3);
        assertValues(out, expected);
    }

    @Test
    void denseWeightsOfEveryType() {
        for (DType type : new DType[] {DType.F64, DType.F32, DType.BF16, DType.F16}) {
            Tensor values = scope.newTensor(type, 2, 2);
            device.upload(values, new double[] {1.5, -2, 0.25, 4}, 0);
            Tensor y = scope.newTensor(1, 2);
            ops.matmul(y, t(1, 2, 1, 10), new Weight.Dense(values), true, 0);
            assertValues(y, -18.5, 40.25);
            ops.embedding(y, ints(1), new Weight.Dense(values));
            assertValues(y, 0.25, 4);
        }
    }

    @Test
    void rowsByIndex() {
        Tensor x = t(3, 2, 1, 2, 3, 4, 5, 6);
        Tensor picked = scope.newTensor(2, 2);
        ops.gatherRows(picked, x, ints(2, 0));
        assertValues(picked, 5, 6, 1, 2);
        ops.scatterRows(x, picked, ints(1, 0));
        assertValues(x, 1, 2, 5, 6, 0, 0);
    }

    @Test
    void rmsNorm() {
        Tensor x = t(2, 2, 3, 4, 0, 2);
        Tensor y = scope.newTensor(2, 2);
        Tensor rstd = scope.newTensor(1, 2);
        ops.rmsNorm(y, rstd, x, t(1, 2, 2, 10), 0.25);
        double r0 = 1 / Math.sqrt(12.75);
        double r1 = 1 / 1.5;
        assertValues(rstd, r0, r1);
        assertValues(y, 6 * r0, 40 * r0, 0, 20 * r1);
    }

    @Test
    void rope() {
        double c = Math.cos(0.5);
        double s = Math.sin(0.5);
        Tensor x = t(2, 4, 1, 2, 3, 4, 1, 2, 3, 4);
        // headDim 2: heads (1, 2) and (3, 4); the first row is at position 1, the second at 0
        Tensor cos = t(2, 1, 1, c);
        Tensor sin = t(2, 1, 0, s);
        ops.rope(x, cos, sin, ints(1, 0), 2, false);
        assertValues(x, c - 2 * s, 2 * c + s, 3 * c - 4 * s, 4 * c + 3 * s, 1, 2, 3, 4);
        ops.rope(x, cos, sin, ints(1, 0), 2, true);
        assertValues(x, 1, 2, 3, 4, 1, 2, 3, 4);
        // headDim 4: pairs are (0, 2) and (1, 3), not neighbours
        Tensor one = t(1, 4, 1, 2, 3, 4);
        ops.rope(one, t(1, 2, 0, 1), t(1, 2, 1, 0), ints(0), 4, false);
        assertValues(one, -3, 2, 1, 4);
    }

    @Test
    void attentionOfTwoTokens() {
        Tensor out = scope.newTensor(2, 2);
        Tensor lse = scope.newTensor(2, 2);
        // two heads of size 1 share one key/value head
        AttentionShape shape = new AttentionShape(2, 1, 1, 2, new int[] {0, 2}, new int[] {0, 2});
        ops.attention(out, lse, t(2, 2, 1, 2, 3, -1), t(2, 1, 0.5, 0.25), t(2, 1, 10, 20), shape);
        double p = 1 / (1 + Math.exp(1.5 - 3));
        double r = 1 / (1 + Math.exp(-0.5 + 1));
        assertValues(out, 10, 10, p * 10 + (1 - p) * 20, r * 10 + (1 - r) * 20);
        assertValues(lse, 1, Math.log(Math.exp(3) + Math.exp(1.5)), 2, Math.log(Math.exp(-1) + Math.exp(-0.5)));
    }

    @Test
    void neighbouringHeadsShareAKeyValueHead() {
        AttentionShape shape = new AttentionShape(4, 2, 1, 1, new int[] {0, 1}, new int[] {0, 1});
        Tensor out = scope.newTensor(1, 4);
        ops.attention(out, scope.newTensor(4, 1), t(1, 4, 1, 2, 3, 4), t(1, 2, 1, 1), t(1, 2, 10, 20), shape);
        assertValues(out, 10, 10, 20, 20);
    }

    @Test
    void attentionWithACacheAndTwoSequences() {
        // sequence 0: one query over keys 0 and 1; sequence 1: two queries over keys 2, 3, 4; scale 0 makes means
        AttentionShape shape = new AttentionShape(1, 1, 1, 0, new int[] {0, 1, 3}, new int[] {0, 2, 5});
        Tensor out = scope.newTensor(3, 1);
        Tensor lse = scope.newTensor(1, 3);
        ops.attention(out, lse, t(3, 1, 1, 1, 1), t(5, 1, 1, 1, 1, 1, 1), t(5, 1, 1, 2, 4, 8, 16), shape);
        assertValues(out, 1.5, 6, 28.0 / 3);
        assertValues(lse, Math.log(2), Math.log(2), Math.log(3));
    }

    @Test
    void attentionSeesTheWindowOnly() {
        // scale 0 makes means: of the keys seen, at most two
        AttentionShape shape = new AttentionShape(1, 1, 1, 0, 2, 0, new int[] {0, 3, 5}, new int[] {0, 3, 6});
        Tensor out = scope.newTensor(5, 1);
        Tensor lse = scope.newTensor(1, 5);
        ops.attention(out, lse, t(5, 1, 1, 1, 1, 1, 1), t(6, 1, 1, 1, 1, 1, 1, 1), t(6, 1, 1, 2, 4, 8, 16, 32), shape);
        assertValues(out, 1, 1.5, 3, 12, 24);
        assertValues(lse, 0, Math.log(2), Math.log(2), Math.log(2), Math.log(2));
    }

    @Test
    void attentionCapsScores() {
        AttentionShape shape = new AttentionShape(1, 1, 1, 2, 0, 3, new int[] {0, 1}, new int[] {0, 2});
        Tensor out = scope.newTensor(1, 1);
        Tensor lse = scope.newTensor(1, 1);
        ops.attention(out, lse, t(1, 1, 5), t(2, 1, 1, -0.5), t(2, 1, 10, 20), shape);
        double a = Math.exp(3 * Math.tanh(10.0 / 3));
        double b = Math.exp(3 * Math.tanh(-5.0 / 3));
        assertValues(out, (10 * a + 20 * b) / (a + b));
        assertValues(lse, Math.log(a + b));
    }

    @Test
    void geGlu() {
        Tensor y = scope.newTensor(1, 3);
        ops.geGlu(y, t(1, 3, 0, 1, -2), t(1, 3, 5, 3, 4));
        double one = 0.5 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * 1.044715));
        double two = -1 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (-2 - 8 * 0.044715)));
        assertValues(y, 0, 3 * one, 4 * two);
    }

    @Test
    void softcap() {
        Tensor y = scope.newTensor(1, 3);
        ops.softcap(y, t(1, 3, 0, 1, -40), 2);
        assertValues(y, 0, 2 * Math.tanh(0.5), 2 * Math.tanh(-20));
    }

    @Test
    void swiGlu() {
        Tensor y = scope.newTensor(1, 3);
        ops.swiGlu(y, t(1, 3, 0, 1, -2), t(1, 3, 5, 3, 4));
        assertValues(y, 0, 3 / (1 + Math.exp(-1)), -8 / (1 + Math.exp(2)));
    }

    @Test
    void sums() {
        Tensor y = t(2, 2, 1, 2, 3, 4);
        ops.add(y, t(2, 2, 10, 20, 30, 40), 0.5);
        assertValues(y, 6, 12, 18, 24);
        ops.addBias(y, t(1, 2, 1, -1));
        assertValues(y, 7, 11, 19, 23);
        assertEquals(49 + 121 + 361 + 529, ops.sumOfSquares(y));
        ops.fill(y, -3);
        assertValues(y, -3, -3, -3, -3);
        Tensor single = scope.newTensor(DType.BF16, 1, 2);
        ops.copy(single, t(1, 2, 1 + 0x1p-8, 1 + 0x3p-8));
        assertValues(single, 1, 1 + 0x1p-6);
    }

    @Test
    void dropoutKeepsTheExpectedShare() {
        int n = 20_000;
        double[] ones = new double[n];
        Arrays.fill(ones, 1);
        Tensor x = t(1, n, ones);
        ops.dropout(x, x, 0.25, 42);
        double[] y = new double[n];
        device.download(x, y, 0);
        int kept = 0;
        for (double v : y) {
            assertTrue(v == 0 || Math.abs(v - 4.0 / 3) < EXACT, "value " + v);
            kept += v == 0 ? 0 : 1;
        }
        assertEquals(0.75, kept / (double) n, 0.01);
        Tensor two = t(2, 3, 1, 2, 3, 4, 5, 6);
        ops.dropout(two, two, 0, 1);
        assertValues(two, 1, 2, 3, 4, 5, 6);
    }

    @Test
    void dropoutNumbersAreSplitMix64() {
        // the first outputs of SplitMix64 with seed 1234567, as published with the algorithm
        assertEquals(6457827717110365317L, Dropout.mix(1234567, 0));
        assertEquals(3203168211198807973L, Dropout.mix(1234567, 1));
    }

    @Test
    void crossEntropy() {
        Tensor logits = t(2, 2, Math.log(3), 0, 5, 5);
        Tensor losses = scope.newTensor(1, 2);
        Tensor correct = scope.newTensor(1, 2);
        ops.crossEntropy(losses, correct, logits, ints(0, 1), 0, 0);
        assertValues(losses, Math.log(4.0 / 3), Math.log(2));
        assertValues(logits, Math.log(3), 0, 5, 5);
        assertValues(correct, 1, 1);
        ops.crossEntropy(losses, correct, logits, ints(1, 0), 0, 0);
        assertValues(correct, 0, 1);
        // half the target is spread over both
        ops.crossEntropy(losses, correct, logits, ints(0, 1), 0, 0.5);
        assertValues(losses, Math.log(4) - 0.75 * Math.log(3), Math.log(2));
        ops.crossEntropy(losses, correct, logits, ints(0, 1), 0.5, 0);
        assertValues(logits, -0.125, 0.125, 0.25, -0.25);
    }

    /** State of one parameter, zeros. */
    private OptimizerState.Full zeros(OptimizerRule rule) {
        OptimizerState.Full state = OptimizerState.Full.allocate(scope, rule, 1);
        ops.fill(state.state1(), 0);
        ops.fill(state.state2(), 0);
        return state;
    }

    @Test
    void adamW() {
        Tensor p = t(1, 1, 2);
        OptimizerRule rule = new OptimizerRule.AdamW(0.9, 0.99, 1e-8, 0.5, true);
        OptimizerState state = zeros(rule);
        ops.optimizerStep(p, t(1, 1, -6), state, new OptimizerStep(rule, 1, 0.1, 0.5));
        // g = -3: m = -0.3, v = 0.09; both corrected: -3 and 9
        assertValues(state.state1(), -0.3);
        assertValues(state.state2(), 0.09);
        assertValues(p, 2 * 0.95 + 0.1 * 3 / (3 + 1e-8));
        OptimizerRule noDecay = new OptimizerRule.AdamW(0.9, 0.99, 1e-8, 0, true);
        ops.optimizerStep(p, t(1, 1, 2), state, new OptimizerStep(noDecay, 2, 0.1, 1));
        double m2 = 0.9 * -0.3 + 0.1 * 2;
        double v2 = 0.99 * 0.09 + 0.01 * 4;
        assertValues(p, 1.9 + 0.3 / (3 + 1e-8) - 0.1 * (m2 / 0.19) / (Math.sqrt(v2 / (1 - 0.99 * 0.99)) + 1e-8));
    }

    @Test
    void decayAfterTheStepDecaysTheChangeToo() {
        Tensor p = t(1, 1, 2);
        OptimizerRule rule = new OptimizerRule.AdamW(0.9, 0.99, 0, 0.5, false);
        ops.optimizerStep(p, t(1, 1, -6), zeros(rule), new OptimizerStep(rule, 1, 0.1, 0.5));
        assertValues(p, (2 + 0.1) * 0.95);
    }

    @Test
    void lion() {
        Tensor p = t(1, 1, 2);
        OptimizerRule rule = new OptimizerRule.Lion(0.9, 0.5, 0.5);
        OptimizerState state = zeros(rule);
        ops.optimizerStep(p, t(1, 1, -6), state, new OptimizerStep(rule, 1, 0.1, 0.5));
        assertValues(p, 2 * 0.95 + 0.1);
        assertValues(state.state1(), -1.5);
        // 0.9·-1.5 + 0.1·3 is negative still
        ops.optimizerStep(p, t(1, 1, 3), state, new OptimizerStep(rule, 2, 0.1, 1));
        assertValues(p, 2 * 0.95 * 0.95 + 0.1 * 0.95 + 0.1);
        assertValues(state.state1(), 0.75);
    }

    @Test
    void sgdWithAndWithoutMomentum() {
        Tensor p = t(1, 1, 2);
        OptimizerRule plain = new OptimizerRule.Sgd(0, 0.5);
        ops.optimizerStep(p, t(1, 1, 3), zeros(plain), new OptimizerStep(plain, 1, 0.1, 2));
        assertValues(p, 2 - 0.1 * (6 + 1));
        OptimizerRule momentum = new OptimizerRule.Sgd(0.9, 0);
        OptimizerState state = zeros(momentum);
        ops.optimizerStep(p, t(1, 1, 3), state, new OptimizerStep(momentum, 1, 0.1, 1));
        assertValues(p, 1.3 - 0.3);
        ops.optimizerStep(p, t(1, 1, 1), state, new OptimizerStep(momentum, 2, 0.1, 1));
        assertValues(p, 1.0 - 0.1 * (0.9 * 3 + 1));
    }

    @Test
    void rmsPropAndAdagrad() {
        Tensor p = t(1, 1, 2);
        OptimizerRule rmsProp = new OptimizerRule.RmsProp(0.75, 1, 0.5);
        ops.optimizerStep(p, t(1, 1, 3), zeros(rmsProp), new OptimizerStep(rmsProp, 1, 0.1, 1));
        // g + wd·p = 4, v = 0.25·16 = 4
        assertValues(p, 2 - 0.1 * 4 / (2 + 1));
        Tensor q = t(1, 1, 2);
        OptimizerRule adagrad = new OptimizerRule.Adagrad(1, 0);
        OptimizerState state = zeros(adagrad);
        ops.optimizerStep(q, t(1, 1, 3), state, new OptimizerStep(adagrad, 1, 0.1, 1));
        ops.optimizerStep(q, t(1, 1, 4), state, new OptimizerStep(adagrad, 2, 0.1, 1));
        assertValues(q, 2 - 0.1 * 3 / (3 + 1) - 0.1 * 4 / (5 + 1));
    }

    @Test
    void adEmaMix() {
        Tensor p = t(1, 1, 2);
        OptimizerRule rule = new OptimizerRule.AdEmaMix(0.5, 0.75, 0.875, 4, 1, 0, 0, 0, true);
        OptimizerState state = zeros(rule);
        ops.optimizerStep(p, t(1, 1, 4), state, new OptimizerStep(rule, 1, 0.1, 1));
        // m1 = 2 (corrected 4), m2 = 0.5, v = 4 (corrected 16)
        assertValues(state.state1(), 2, 0.5);
        assertValues(state.state2(), 4);
        assertValues(p, 2 - 0.1 * (4 + 4 * 0.5) / (4 + 1));
    }
}
