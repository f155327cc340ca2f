package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.nf4.device.OptimizerState.EightBit;
import org.qlora4j.nf4.device.OptimizerState.Full;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.device.TwoDevices.Pair;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.DynamicMap;

/** Optimizers, with full and with 8-bit state. */
abstract class OptimizerContract extends ElementContract {
    private static final int[] COUNTS = {1, 7, 255, 256, 257, 1000, 20_011};

    static Stream<OptimizerRule> rules() {
        return Stream.of(
                new OptimizerRule.AdamW(0.9, 0.999, 1e-8, 0.1, true),
                new OptimizerRule.AdamW(0.9, 0.95, 1e-8, 0.1, false),
                new OptimizerRule.Lion(0.9, 0.99, 0.1),
                new OptimizerRule.Sgd(0, 0.1),
                new OptimizerRule.Sgd(0.9, 0.1),
                new OptimizerRule.RmsProp(0.99, 1e-8, 0.1),
                new OptimizerRule.Adagrad(1e-10, 0.1),
                new OptimizerRule.AdEmaMix(0.9, 0.999, 0.9999, 5, 1e-8, 0.1, 0, 0, true),
                new OptimizerRule.AdEmaMix(0.9, 0.999, 0.9999, 5, 1e-8, 0.1, 6, 8, false));
    }

    /** State twice, zeros, inside larger matrices. */
    private record FullPair(Pair state1, Pair state2) {
        Full mine() {
            return new Full(state1.mine(), state2.mine());
        }

        Full expected() {
            return new Full(state1.expected(), state2.expected());
        }
    }

    private FullPair zeros(OptimizerRule rule, int n, Layout layout) {
        return new FullPair(
                both.preciseMake(rule.state1Rows(), n, layout, new double[rule.state1Rows() * n]),
                both.preciseMake(rule.state2Rows(), n, layout, new double[rule.state2Rows() * n]));
    }

    @ParameterizedTest
    @MethodSource("rules")
    void fullState(OptimizerRule rule) {
        for (int i = 0; i < COUNTS.length; i++) {
            int n = COUNTS[i];
            Pair p = both.preciseRandom(1, n, 1, layout(i));
            FullPair state = zeros(rule, n, layout(i));
            for (long t = 1; t <= 4; t++) {
                Pair g = both.preciseRandom(1, n, SCALES[(int) (t + i) % SCALES.length], layout(i));
                OptimizerStep step = new OptimizerStep(rule, t, 1e-2, 0.7);
                both.ops().optimizerStep(p.mine(), g.mine(), state.mine(), step);
                both.referenceOps().optimizerStep(p.expected(), g.expected(), state.expected(), step);
                String what = rule + " n " + n + " step " + t;
                // SGD's parameters are as large as its gradients
                both.assertClose(what + " p", p, 4 * optimizer);
                // averages may pass near zero after a change of sign: the largest value is the measure
                both.assertClose(what + " state1", state.state1, 4 * optimizer);
                both.assertClose(what + " state2", state.state2, 4 * optimizer);
            }
        }
    }

    @ParameterizedTest
    @MethodSource("rules")
    void withoutGradientOnlyDecayMovesParameters(OptimizerRule rule) {
        Pair p = both.preciseRandom(1, 300, 1, Layout.CONTIGUOUS);
        Pair g = both.preciseMake(1, 300, Layout.CONTIGUOUS, new double[300]);
        FullPair state = zeros(rule, 300, Layout.CONTIGUOUS);
        OptimizerStep step = new OptimizerStep(rule, 1, 0.5, 1);
        both.ops().optimizerStep(p.mine(), g.mine(), state.mine(), step);
        both.referenceOps().optimizerStep(p.expected(), g.expected(), state.expected(), step);
        both.assertClose(rule + " decay", p, 2 * optimizer);
    }

    @ParameterizedTest
    @MethodSource("rules")
    void aRangeIsSteppedAloneAsInTheWhole(OptimizerRule rule) {
        int n = 1000;
        try (Scope scope = both.device.newScope()) {
            Pair p = both.preciseRandom(1, n, 1, Layout.CONTIGUOUS);
            Pair g = both.preciseRandom(1, n, 1, Layout.CONTIGUOUS);
            for (Blockwise8.Rule rounding : roundings()) {
                EightBit whole = zeros(both.device, scope, rule, n, rounding);
                EightBit split = zeros(both.device, scope, rule, n, rounding);
                OptimizerStep step = new OptimizerStep(rule, 1, 1e-2, 1);
                Tensor a = copy(scope, p.mine());
                Tensor b = copy(scope, p.mine());
                both.ops().optimizerStep(a, g.mine(), whole, step);
                both.ops().optimizerStep(b.cols(0, 512), g.mine().cols(0, 512), split.range(0, 512), step);
                both.ops().optimizerStep(b.cols(512, 488), g.mine().cols(512, 488), split.range(512, 488), step);
                assertArrayEquals(both.values(a), both.values(b), rule + " p");
                assertArrayEquals(bytes(whole.state1()), bytes(split.state1()), rule + " state1");
                assertArrayEquals(bytes(whole.absmax1()), bytes(split.absmax1()), rule + " absmax1");
                assertArrayEquals(bytes(whole.state2()), bytes(split.state2()), rule + " state2");
            }
        }
    }

    private Tensor copy(Scope scope, Tensor x) {
        Tensor y = scope.newPrecise(x.rows(), x.cols());
        both.ops().copy(y, x);
        return y;
    }

    private static EightBit zeros(Device device, Scope scope, OptimizerRule rule, int n, Blockwise8.Rule rounding) {
        EightBit state = EightBit.allocate(scope, rule, n, rounding);
        for (Tensor part : List.of(state.state1(), state.absmax1(), state.state2(), state.absmax2())) {
            device.upload(part, new byte[(int) part.spanBytes()], 0);
        }
        return state;
    }

    private byte[] bytes(Tensor mine) {
        return bytes(both.device, mine);
    }

    private static byte[] bytes(Device device, Tensor t) {
        byte[] bytes = new byte[(int) t.numel() * t.dtype().bytes()];
        device.download(t, bytes, 0);
        return bytes;
    }

    /**
     * Decoded state is equal up to a few codes that rounding tipped over to their neighbour; the parameters up to what
     * such a code changes.
     */
    @ParameterizedTest
    @MethodSource("rules")
    void eightBitState(OptimizerRule rule) {
        for (Blockwise8.Rule rounding : roundings()) {
            for (int n : COUNTS) {
                try (Scope scope = both.device.newScope();
                        Scope exact = both.reference.newScope()) {
                    EightBit mine = zeros(both.device, scope, rule, n, rounding);
                    EightBit expected = zeros(both.reference, exact, rule, n, rounding);
                    Pair p = both.preciseRandom(1, n, 1, Layout.CONTIGUOUS);
                    for (long t = 1; t <= 3; t++) {
                        Pair g = both.preciseRandom(1, n, 1, Layout.CONTIGUOUS);
                        OptimizerStep step = new OptimizerStep(rule, t, 1e-2, 0.7);
                        both.ops().optimizerStep(p.mine(), g.mine(), mine, step);
                        both.referenceOps().optimizerStep(p.expected(), g.expected(), expected, step);
                        String what = rule + " " + rounding + " n " + n + " step " + t;
                        int other = different(what + " state1", mine.state1(), expected.state1())
                                + different(what + " state2", mine.state2(), expected.state2());
                        assertTrue(other <= 1 + n * otherCodes(), what + ": " + other + " other codes");
                        // where gradient and coupled decay cancel, their quotient is rounding noise
                        boolean cancels =
                                rule instanceof OptimizerRule.RmsProp || rule instanceof OptimizerRule.Adagrad;
                        if (other == 0 && t == 1 && !cancels) {
                            both.assertClose(what + " p", p, 4 * optimizer);
                        }
                    }
                }
            }
        }
    }

    /** Counts codes that differ; none may differ by more than one in each step so far. */
    private int different(String what, Tensor mine, Tensor expected) {
        byte[] a = bytes(mine);
        byte[] b = bytes(both.reference, expected);
        int count = 0;
        for (int i = 0; i < a.length; i++) {
            if (a[i] != b[i]) {
                count++;
                int apart = Math.abs((a[i] & 0xFF) - (b[i] & 0xFF));
                assertTrue(apart <= 3, what + " code " + i + " is " + apart + " off");
            }
        }
        return count;
    }

    /** With nearest codes the decay counts in the state only, as in bitsandbytes' 8-bit GPU kernel. */
    @Test
    void coupledDecayOfEightBitState() {
        OptimizerRule rule = new OptimizerRule.Adagrad(0, 0.5);
        for (Blockwise8.Rule rounding : roundings()) {
            try (Scope scope = both.device.newScope()) {
                Tensor p = scope.newPrecise(1, 1);
                Tensor g = scope.newPrecise(1, 1);
                both.ops().fill(p, 2);
                both.ops().fill(g, 3);
                EightBit state = zeros(both.device, scope, rule, 1, rounding);
                both.ops().optimizerStep(p, g, state, new OptimizerStep(rule, 1, 0.5, 1));
                // g + wd·p = 4 = √v
                double expected = rounding == Blockwise8.Rule.NEAREST ? 2 - 0.5 * 3 / 4 : 2 - 0.5;
                assertEquals(expected, both.values(p)[0], 1e-6, rounding.name());
            }
        }
    }

    /** A small negative average would become +0 if it were rounded to the nearest code only. */
    @Test
    void nearestCodesKeepTheSign() {
        OptimizerRule rule = new OptimizerRule.Sgd(0.5, 0);
        try (Scope scope = both.device.newScope()) {
            Tensor p = scope.newPrecise(1, 4);
            Tensor g = scope.newPrecise(1, 4);
            both.ops().fill(p, 0);
            both.device.upload(g, new float[] {1, -1e-9f, 1e-9f, 0}, 0);
            EightBit state = zeros(both.device, scope, rule, 4, Blockwise8.Rule.NEAREST);
            both.ops().optimizerStep(p, g, state, new OptimizerStep(rule, 1, 1, 1));
            byte[] codes = bytes(state.state1());
            float[] map = DynamicMap.signed();
            assertEquals(1, map[codes[0] & 0xFF]);
            assertTrue(map[codes[1] & 0xFF] < 0);
            assertEquals(0, map[codes[2] & 0xFF]);
            assertEquals(0, map[codes[3] & 0xFF]);
        }
    }
}
