package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.device.TwoDevices.Pair;

/**
 * What every device must compute: each operation against {@link org.qlora4j.nf4.device.reference.ReferenceDevice}. A
 * device's test class extends this one and opens the device; this class itself holds the tests of attention, its
 * superclasses the others.
 */
abstract class OpsContract extends OptimizerContract {
    private record Inputs(Pair q, Pair k, Pair v, Pair out, Pair logSumExp, AttentionShape shape, String what) {}

    /** Runs forward and compares it. */
    private Inputs forward(
            int heads, int kvHeads, int headDim, int[] queryOffsets, int[] keyOffsets, double scale, Layout layout) {
        return forward(
                new AttentionShape(heads, kvHeads, headDim, 1 / Math.sqrt(headDim), queryOffsets, keyOffsets),
                scale,
                layout);
    }

    private Inputs forward(AttentionShape shape, double scale, Layout layout) {
        int heads = shape.numHeads();
        int kvHeads = shape.numKvHeads();
        int headDim = shape.headDim();
        String what = "attention heads " + heads + "/" + kvHeads + " size " + headDim + " window " + shape.window()
                + " softcap " + shape.softcap() + " queries " + Arrays.toString(shape.queryOffsets()) + " keys "
                + Arrays.toString(shape.keyOffsets()) + " scale " + scale + " " + layout;
        Pair q = both.random(shape.queries(), heads * headDim, scale, layout);
        Pair k = both.random(shape.keys(), kvHeads * headDim, 1, layout);
        Pair v = both.random(shape.keys(), kvHeads * headDim, 1, layout);
        Pair out = both.garbage(shape.queries(), heads * headDim, layout);
        Pair logSumExp = both.preciseGarbage(heads, shape.queries(), layout);
        both.ops().attention(out.mine(), logSumExp.mine(), q.mine(), k.mine(), v.mine(), shape);
        both.referenceOps()
                .attention(out.expected(), logSumExp.expected(), q.expected(), k.expected(), v.expected(), shape);
        both.assertClose(what + " out", out, tolerance(headDim, scale, shape));
        both.assertClose(what + " logSumExp", logSumExp, tolerance(headDim, scale, shape));
        return new Inputs(q, k, v, out, logSumExp, shape, what);
    }

    private double tolerance(int headDim, double scale, AttentionShape shape) {
        return Tolerances.softmax(both.type(), headDim, scale) * Math.sqrt(1 + Math.log(shape.keys()));
    }

    private void backward(int heads, int kvHeads, int headDim, int[] offsets, double scale, Layout layout) {
        backward(forward(heads, kvHeads, headDim, offsets, offsets, scale, layout), scale, layout);
    }

    private void backward(Inputs in, double scale, Layout layout) {
        int heads = in.shape.numHeads();
        int kvHeads = in.shape.numKvHeads();
        int headDim = in.shape.headDim();
        int n = in.shape.queries();
        Pair dOut = both.random(n, heads * headDim, 1, layout);
        Pair dq = both.garbage(n, heads * headDim, layout);
        Pair dk = both.garbage(n, kvHeads * headDim, layout);
        Pair dv = both.garbage(n, kvHeads * headDim, layout);
        run(in, dq, dk, dv, dOut);
        double tolerance = 4 * tolerance(headDim, scale, in.shape);
        // a single key has softmax 1 and gradient 0, of which only rounding errors are left
        boolean alone = n == in.shape.sequences() || in.shape.window() == 1;
        if (alone) {
            assertArrayEquals(new double[n * heads * headDim], both.values(dq.mine()), 1e4 * element, in.what + " dq");
            assertArrayEquals(
                    new double[n * kvHeads * headDim], both.values(dk.mine()), 1e4 * element, in.what + " dk");
        } else {
            both.assertClose(in.what + " dq", dq, tolerance);
            both.assertClose(in.what + " dk", dk, tolerance);
        }
        both.assertClose(in.what + " dv", dv, tolerance);

        Pair again = both.garbage(n, kvHeads * headDim, layout);
        Pair dq2 = both.garbage(n, heads * headDim, layout);
        Pair dv2 = both.garbage(n, kvHeads * headDim, layout);
        run(in, dq2, again, dv2, dOut);
        assertArrayEquals(both.values(dk.mine()), both.values(again.mine()), in.what + ": dk differs in a second run");
        assertArrayEquals(both.values(dq.mine()), both.values(dq2.mine()), in.what + ": dq differs in a second run");
    }

    private void run(Inputs in, Pair dq, Pair dk, Pair dv, Pair dOut) {
        both.ops()
                .attentionBackward(
                        dq.mine(),
                        dk.mine(),
                        dv.mine(),
                        dOut.mine(),
                        in.out.mine(),
                        in.logSumExp.mine(),
                        in.q.mine(),
                        in.k.mine(),
                        in.v.mine(),
                        in.shape);
        both.referenceOps()
                .attentionBackward(
                        dq.expected(),
                        dk.expected(),
                        dv.expected(),
                        dOut.expected(),
                        in.out.expected(),
                        in.logSumExp.expected(),
                        in.q.expected(),
                        in.k.expected(),
                        in.v.expected(),
                        in.shape);
    }

    @ParameterizedTest
    @CsvSource({"1,1,1", "1,1,8", "2,1,5", "4,2,16", "3,3,17", "6,2,32", "9,3,64"})
    void attentionWithGroupedHeads(int heads, int kvHeads, int headDim) {
        for (int n : new int[] {1, 2, 7, 16, 33}) {
            backward(heads, kvHeads, headDim, new int[] {0, n}, 1, layout(n));
        }
    }

    @Test
    void attentionOverPackedSequences() {
        backward(4, 2, 8, new int[] {0, 5, 6, 23, 40}, 1, Layout.CONTIGUOUS);
        backward(2, 2, 13, new int[] {0, 1, 2, 3}, 1, Layout.STRIDED);
        backward(3, 1, 16, new int[] {0, 17, 18, 49, 114}, 1, Layout.STRIDED);
    }

    @Test
    void attentionOfLongSequences() {
        backward(2, 1, 16, new int[] {0, 300}, 1, Layout.CONTIGUOUS);
        backward(2, 2, 8, new int[] {0, 129, 386}, 1, Layout.STRIDED);
        backward(1, 1, 8, new int[] {0, 128, 256, 257}, 1, Layout.CONTIGUOUS);
    }

    @Test
    void attentionWithAKeyValueCache() {
        for (int heads : new int[] {1, 4}) {
            forward(heads, 1, 16, new int[] {0, 1}, new int[] {0, 1}, 1, Layout.CONTIGUOUS);
            forward(heads, 1, 16, new int[] {0, 1}, new int[] {0, 65}, 1, Layout.STRIDED);
            forward(heads, 1, 64, new int[] {0, 1}, new int[] {0, 300}, 1, Layout.CONTIGUOUS);
            forward(heads, 1, 17, new int[] {0, 7}, new int[] {0, 20}, 1, Layout.STRIDED);
            forward(heads, 1, 8, new int[] {0, 130}, new int[] {0, 140}, 1, Layout.CONTIGUOUS);
            forward(heads, 1, 16, new int[] {0, 1, 4, 5}, new int[] {0, 13, 16, 150}, 1, Layout.CONTIGUOUS);
        }
    }

    /** Devices may have other code for each width, and for few queries over many keys. */
    @ParameterizedTest
    @ValueSource(ints = {65, 96, 128, 130, 256, 300})
    void attentionOfWideHeads(int headDim) {
        backward(4, 2, headDim, new int[] {0, 1, 35, 101}, 1, layout(headDim));
        forward(2, 1, headDim, new int[] {0, 40}, new int[] {0, 75}, 1, Layout.CONTIGUOUS);
        forward(2, 1, headDim, new int[] {0, 1, 9}, new int[] {0, 140, 450}, 1, layout(headDim));
    }

    @ParameterizedTest
    @CsvSource({"7,1,64,0,0", "8,2,128,100,0", "3,3,24,0,20", "14,2,80,300,20"})
    void attentionOfFewQueriesOverManyKeys(int heads, int kvHeads, int headDim, int window, double softcap) {
        for (int queries : new int[] {1, 5, 8}) {
            int[] queryOffsets = {0, 1, 1 + queries, 2 + queries};
            int[] keyOffsets = {0, 700, 710 + queries, 720 + 3 * queries};
            double scale = 1 / Math.sqrt(headDim);
            forward(
                    new AttentionShape(heads, kvHeads, headDim, scale, window, softcap, queryOffsets, keyOffsets),
                    1,
                    layout(queries));
        }
    }

    /** Shapes as they come, the same ones each time. */
    @Test
    void attentionOfRandomShapes() {
        Random random = new Random(3);
        for (int i = 0; i < 24; i++) {
            int group = List.of(1, 2, 4, 7).get(random.nextInt(4));
            int kvHeads = 1 + random.nextInt(2);
            int headDim = List.of(64, 128, 64, 128, 96, 33, 16, 1).get(i % 8);
            int window = List.of(0, 0, 1, 5, 64, 100).get(random.nextInt(6));
            double softcap = i % 3 == 2 ? 20 : 0;
            boolean cache = random.nextInt(3) == 0;
            int sequences = 1 + random.nextInt(4);
            int[] queryOffsets = new int[sequences + 1];
            int[] keyOffsets = new int[sequences + 1];
            for (int s = 0; s < sequences; s++) {
                int queries = 1 + random.nextInt(160 / sequences);
                queryOffsets[s + 1] = queryOffsets[s] + queries;
                keyOffsets[s + 1] = keyOffsets[s] + queries + (cache ? random.nextInt(130) : 0);
            }
            Inputs in = forward(
                    new AttentionShape(
                            group * kvHeads,
                            kvHeads,
                            headDim,
                            1 / Math.sqrt(headDim),
                            window,
                            softcap,
                            queryOffsets,
                            keyOffsets),
                    1,
                    layout(i));
            if (!cache) {
                backward(in, 1, layout(i));
            }
        }
    }

    private static AttentionShape shape(int window, double softcap, int[] queryOffsets, int... keyOffsets) {
        return new AttentionShape(4, 2, 12, 0.3, window, softcap, queryOffsets, keyOffsets);
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 11, 64, 127, 128, 129, 500})
    void attentionWithAWindow(int window) {
        for (int[] offsets : new int[][] {{0, 1}, {0, 13, 14, 40}, {0, 300}, {0, 129, 386}}) {
            backward(forward(shape(window, 0, offsets, offsets), 1, layout(window)), 1, layout(window));
        }
        forward(shape(window, 0, new int[] {0, 1}, 0, 140), 1, Layout.CONTIGUOUS);
        forward(shape(window, 0, new int[] {0, 7}, 0, 135), 1, Layout.STRIDED);
        forward(shape(window, 2, new int[] {0, 130, 131}, 0, 140, 290), 1, Layout.CONTIGUOUS);
    }

    @Test
    void aKeyReachesAsManyQueriesAsTheWindowIsWide() {
        int[] offsets = {0, 6, 20};
        Inputs in = forward(shape(5, 0, offsets, offsets), 1, Layout.CONTIGUOUS);
        double[] before = both.values(in.out.mine());
        both.ops().fill(in.v.mine().rows(8, 1), 9);
        both.ops().attention(in.out.mine(), in.logSumExp.mine(), in.q.mine(), in.k.mine(), in.v.mine(), in.shape);
        double[] after = both.values(in.out.mine());
        for (int i = 0; i < before.length; i++) {
            int row = i / in.out.mine().cols();
            assertEquals(row >= 8 && row < 13, before[i] != after[i], "row " + row + " changes");
        }
    }

    @ParameterizedTest
    @ValueSource(doubles = {0.5, 3, 50})
    void attentionWithASoftcap(double softcap) {
        for (int[] offsets : new int[][] {{0, 2}, {0, 13, 14, 40}, {0, 200}}) {
            for (int window : new int[] {0, 9}) {
                backward(forward(shape(window, softcap, offsets, offsets), 2, layout(window)), 2, layout(window));
            }
        }
    }

    @Test
    void attentionAtEveryScale() {
        for (double scale : SCALES) {
            backward(2, 1, 16, new int[] {0, 31}, scale, Layout.CONTIGUOUS);
        }
    }

    @Test
    void attentionIsCausalAndSeesNoOtherSequence() {
        int[] offsets = {0, 6, 15};
        Inputs in = forward(2, 1, 8, offsets, offsets, 1, Layout.CONTIGUOUS);
        double[] before = both.values(in.out.mine());
        // the last key of the first sequence: visible to that sequence's last query only
        both.ops().fill(in.k.mine().rows(5, 1), 9);
        both.ops().fill(in.v.mine().rows(5, 1), 9);
        both.ops().attention(in.out.mine(), in.logSumExp.mine(), in.q.mine(), in.k.mine(), in.v.mine(), in.shape);
        double[] after = both.values(in.out.mine());
        for (int i = 0; i < before.length; i++) {
            boolean changes = i / 16 == 5;
            if (changes == (before[i] == after[i])) {
                throw new AssertionError("row " + i / 16 + (changes ? " did not change" : " changed"));
            }
        }
    }
}
