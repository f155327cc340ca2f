package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.device.TwoDevices.Pair;
import org.qlora4j.nf4.tensor.Tensor;

/** Operations on whole rows: copies, norms, rotary embedding, loss. */
abstract class RowContract extends ProductContract {
    /** Longer than any block a kernel may use, and not a multiple of one. */
    private static final int LONG_ROW = 40_003;

    @Test
    void gatherAndScatterRows() {
        for (int i = 0; i < SIZES.length; i++) {
            int rows = SIZES[i];
            int cols = SIZES[(i * 5 + 2) % SIZES.length];
            int count = 1 + rows / 2;
            Pair x = both.random(rows, cols, 1, layout(i));
            Pair index = both.randomIndices(count, rows);
            Pair gathered = both.garbage(count, cols, layout(i + 1));
            both.ops().gatherRows(gathered.mine(), x.mine(), index.mine());
            both.referenceOps().gatherRows(gathered.expected(), x.expected(), index.expected());
            both.assertSame("gatherRows " + rows + "x" + cols, gathered);

            Pair distinct = both.distinctIndices(count, rows);
            Pair scattered = both.garbage(rows, cols, layout(i + 1));
            both.ops().scatterRows(scattered.mine(), gathered.mine(), distinct.mine());
            both.referenceOps().scatterRows(scattered.expected(), gathered.expected(), distinct.expected());
            both.assertSame("scatterRows " + rows + "x" + cols, scattered);
        }
    }

    @Test
    void gatherAndScatterNoRows() {
        Pair x = both.random(3, 4, 1, Layout.CONTIGUOUS);
        Pair none = both.garbage(0, 4, Layout.CONTIGUOUS);
        Pair index = both.indices();
        both.ops().gatherRows(none.mine(), x.mine(), index.mine());
        both.ops().scatterRows(x.mine(), none.mine(), index.mine());
        both.referenceOps().scatterRows(x.expected(), none.expected(), index.expected());
        both.assertSame("scatterRows of nothing", x);
    }

    @Test
    void scaleRowsAndRowDots() {
        for (int i = 0; i < SIZES.length; i++) {
            int rows = SIZES[(i * 3 + 1) % SIZES.length];
            int cols = SIZES[i];
            String what = rows + "x" + cols;
            Pair x = both.random(rows, cols, 1, layout(i));
            Pair scale = both.preciseRandom(1, rows, 1, Layout.CONTIGUOUS);
            Pair y = both.garbage(rows, cols, layout(i + 1));
            both.ops().scaleRows(y.mine(), x.mine(), scale.mine());
            both.referenceOps().scaleRows(y.expected(), x.expected(), scale.expected());
            both.assertClose("scaleRows " + what, y, element);
            Pair dots = both.preciseGarbage(1, rows, Layout.CONTIGUOUS);
            both.ops().rowDots(dots.mine(), x.mine(), y.mine());
            both.referenceOps().rowDots(dots.expected(), x.expected(), y.expected());
            both.assertClose("rowDots " + what, dots, sum(cols));
            both.ops().scaleRows(x.mine(), x.mine(), scale.mine());
            both.referenceOps().scaleRows(x.expected(), x.expected(), scale.expected());
            both.assertClose("scaleRows in place " + what, x, element);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void topKSoftmaxForwardAndBackward(boolean normalize) {
        for (int i = 0; i < SIZES.length; i++) {
            int rows = SIZES[(i * 3 + 1) % SIZES.length];
            route(rows, SIZES[i], 1 + i % Math.min(SIZES[i], 8), 1, normalize, i);
        }
        route(700, 128, 8, 1, normalize, 0);
        for (double scale : SCALES) {
            route(5, 16, 3, scale, normalize, 1);
        }
    }

    private void route(int rows, int experts, int k, double scale, boolean normalize, int turn) {
        String what = "topKSoftmax " + k + " of " + experts + " scale " + scale + " normalize " + normalize;
        Pair logits = both.preciseRandom(rows, experts, scale, layout(turn));
        Pair weights = both.preciseGarbage(rows, k, layout(turn + 1));
        Pair chosen = both.indices(new int[rows * k]);
        both.ops().topKSoftmax(weights.mine(), chosen.mine(), logits.mine(), normalize);
        both.referenceOps().topKSoftmax(weights.expected(), chosen.expected(), logits.expected(), normalize);
        int[] mine = new int[rows * k];
        int[] expected = new int[rows * k];
        both.device.download(chosen.mine(), mine, 0);
        both.reference.download(chosen.expected(), expected, 0);
        assertArrayEquals(expected, mine, what);
        // an exponent's error is relative to the logits
        double tolerance = sum(experts) * Math.max(1, scale);
        both.assertClose(what + " weights", weights, tolerance);
        both.assertClose(what + " probabilities", logits, tolerance);

        Pair d = both.preciseRandom(rows, k, 1, layout(turn));
        Pair apart = both.preciseGarbage(rows, experts, layout(turn + 1));
        for (Pair out : List.of(apart, logits)) {
            both.ops()
                    .topKSoftmaxBackward(out.mine(), d.mine(), weights.mine(), chosen.mine(), logits.mine(), normalize);
            both.referenceOps()
                    .topKSoftmaxBackward(
                            out.expected(),
                            d.expected(),
                            weights.expected(),
                            chosen.expected(),
                            logits.expected(),
                            normalize);
            if (scale <= 1) {
                both.assertClose(what + " backward", out, tolerance);
            } else {
                // one expert has nearly all, so that g - Σ g·w cancels: the error is relative to g, which is about 1
                double[] exact = new double[rows * experts];
                both.reference.download(out.expected(), exact, 0);
                assertArrayEquals(exact, both.values(out.mine()), tolerance, what + " backward");
            }
        }
    }

    @Test
    void topKSoftmaxTakesTheFirstOfEqualsAndSurvivesNaN() {
        double nan = Double.NaN;
        Pair logits = both.preciseMake(2, 4, Layout.STRIDED, new double[] {1, 2, 2, 1, nan, nan, nan, nan});
        Pair weights = both.preciseGarbage(2, 3, Layout.CONTIGUOUS);
        Pair chosen = both.indices(9, 9, 9, 9, 9, 9);
        both.ops().topKSoftmax(weights.mine(), chosen.mine(), logits.mine(), true);
        int[] found = new int[6];
        both.device.download(chosen.mine(), found, 0);
        assertArrayEquals(new int[] {1, 2, 0, 0, 1, 2}, found);
        assertTrue(Double.isNaN(both.values(weights.mine())[3]));
    }

    @Test
    void rmsNormForwardAndBackward() {
        for (int i = 0; i < SIZES.length; i++) {
            norm(SIZES[(i * 3 + 1) % SIZES.length], SIZES[i], 1, i);
        }
        norm(2, LONG_ROW, 1, 0);
        norm(3, 2051, 1, 1);
    }

    @Test
    void rmsNormAtEveryScale() {
        for (double scale : SCALES) {
            norm(4, 65, scale, 0);
            norm(4, 65, 1 / (1000 * scale), 1);
        }
    }

    private void norm(int rows, int cols, double scale, int turn) {
        String what = "rmsNorm " + rows + "x" + cols + " scale " + scale;
        Layout layout = layout(turn);
        Pair x = both.random(rows, cols, scale, layout);
        Pair weight = both.preciseRandom(1, cols, 1, Layout.CONTIGUOUS);
        Pair y = both.garbage(rows, cols, layout);
        Pair rstd = both.preciseGarbage(1, rows, Layout.CONTIGUOUS);
        both.ops().rmsNorm(y.mine(), rstd.mine(), x.mine(), weight.mine(), 1e-5);
        both.referenceOps().rmsNorm(y.expected(), rstd.expected(), x.expected(), weight.expected(), 1e-5);
        both.assertClose(what + " rstd", rstd, sum(cols));
        both.assertClose(what, y, sum(cols));

        Pair dy = both.random(rows, cols, 1, layout);
        double beta = new double[] {0, 1, 0.5}[turn % 3];
        Pair dx = beta == 0 ? both.garbage(rows, cols, layout) : both.random(rows, cols, 1 / scale, layout);
        both.ops().rmsNormBackward(dx.mine(), dy.mine(), x.mine(), rstd.mine(), weight.mine(), beta);
        both.referenceOps()
                .rmsNormBackward(dx.expected(), dy.expected(), x.expected(), rstd.expected(), weight.expected(), beta);
        if (cols == 1 && beta == 0) {
            // nothing but cancellation: 1 - x²·rstd² is about eps
            for (double v : both.values(dx.mine())) {
                assertEquals(0, v, 1e-3, what + " backward");
            }
        } else {
            both.assertClose(what + " backward beta " + beta, dx, sum(cols));
        }

        both.ops().rmsNorm(x.mine(), rstd.mine(), x.mine(), weight.mine(), 1e-5);
        both.referenceOps().rmsNorm(x.expected(), rstd.expected(), x.expected(), weight.expected(), 1e-5);
        both.assertClose(what + " in place", x, sum(cols));
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void rope(boolean inverse) {
        int positions = 50;
        for (int headDim : new int[] {2, 6, 8, 14, 32, 34, 64, 128}) {
            for (int heads : new int[] {1, 3}) {
                int rows = headDim % 4 == 0 ? 13 : 1;
                Pair cos =
                        both.preciseMake(positions, headDim / 2, Layout.CONTIGUOUS, angles(positions, headDim, true));
                Pair sin =
                        both.preciseMake(positions, headDim / 2, Layout.CONTIGUOUS, angles(positions, headDim, false));
                Pair x = both.random(rows, heads * headDim, 1, layout(heads / 2));
                Pair at = both.randomIndices(rows, positions);
                both.ops().rope(x.mine(), cos.mine(), sin.mine(), at.mine(), headDim, inverse);
                both.referenceOps().rope(x.expected(), cos.expected(), sin.expected(), at.expected(), headDim, inverse);
                both.assertClose("rope headDim " + headDim + " heads " + heads, x, element);
            }
        }
    }

    @Test
    void ropeOfTheFirstElementsOfEachHead() {
        for (int[] size : new int[][] {{5, 2}, {5, 4}, {24, 12}, {96, 32}, {64, 34}, {80, 64}}) {
            Pair cos = both.preciseMake(9, size[1] / 2, Layout.CONTIGUOUS, angles(9, size[1], true));
            Pair sin = both.preciseMake(9, size[1] / 2, Layout.CONTIGUOUS, angles(9, size[1], false));
            Pair x = both.random(7, 3 * size[0], 1, layout(size[1]));
            Pair at = both.randomIndices(7, 9);
            both.ops().rope(x.mine(), cos.mine(), sin.mine(), at.mine(), size[0], false);
            both.referenceOps().rope(x.expected(), cos.expected(), sin.expected(), at.expected(), size[0], false);
            both.assertClose("rope of " + size[1] + " of " + size[0], x, element);
        }
    }

    private static double[] angles(int positions, int headDim, boolean cos) {
        double[] values = new double[positions * headDim / 2];
        for (int i = 0; i < values.length; i++) {
            int position = i / (headDim / 2);
            double angle = position * Math.pow(10_000, -2.0 * (i % (headDim / 2)) / headDim);
            values[i] = cos ? Math.cos(angle) : Math.sin(angle);
        }
        return values;
    }

    @Test
    void crossEntropy() {
        for (int i = 0; i < SIZES.length; i++) {
            loss(SIZES[(i * 3 + 1) % SIZES.length], SIZES[i], 1, 0.125, i % 3 == 0 ? 0.1 : 0, layout(i));
        }
        loss(3, LONG_ROW, 1, 1, 0, Layout.CONTIGUOUS);
        loss(3, LONG_ROW, 1, 1, 0.1, Layout.CONTIGUOUS);
        loss(2, 1027, 3, 1 / 3.0, 0.5, Layout.STRIDED);
        for (double scale : SCALES) {
            loss(5, 100, scale, 0.25, 0, Layout.CONTIGUOUS);
            loss(5, 100, scale, 0.25, 0.2, Layout.CONTIGUOUS);
        }
    }

    private void loss(int rows, int vocabulary, double scale, double gradientScale, double smoothing, Layout layout) {
        String what = "crossEntropy " + rows + "x" + vocabulary + " scale " + scale + " smoothing " + smoothing;
        Pair logits = both.random(rows, vocabulary, scale, layout);
        Pair labels = both.randomIndices(rows, vocabulary);
        Pair losses = both.preciseGarbage(1, rows, Layout.CONTIGUOUS);
        Pair correct = both.preciseGarbage(1, rows, Layout.CONTIGUOUS);
        // log of a sum and its label may nearly cancel: the error is relative to the logits
        double tolerance = vocabulary == 1 ? 1 : sum(vocabulary) * Math.max(1, scale);
        crossEntropy(losses, correct, logits, labels, 0, smoothing);
        both.assertClose(what + " without gradient", losses, tolerance);
        both.assertSame(what + " correct without gradient", correct);
        both.assertSame(what + " untouched logits", logits);
        crossEntropy(losses, correct, logits, labels, gradientScale, smoothing);
        both.assertClose(what + " losses", losses, tolerance);
        both.assertSame(what + " correct", correct);
        both.assertClose(what + " gradient", logits, sum(vocabulary) * Math.max(1, scale));
    }

    private void crossEntropy(
            Pair losses, Pair correct, Pair logits, Pair labels, double gradientScale, double smoothing) {
        both.ops().crossEntropy(losses.mine(), correct.mine(), logits.mine(), labels.mine(), gradientScale, smoothing);
        both.referenceOps()
                .crossEntropy(
                        losses.expected(),
                        correct.expected(),
                        logits.expected(),
                        labels.expected(),
                        gradientScale,
                        smoothing);
    }

    @Test
    void lossOfAHopelessLabelIsFinite() {
        Pair logits = both.make(2, 3, Layout.CONTIGUOUS, new double[] {3e4, -3e4, 0, -3e4, -3e4, -3e4});
        Pair labels = both.indices(1, 2);
        Pair losses = both.preciseGarbage(1, 2, Layout.CONTIGUOUS);
        Pair correct = both.preciseGarbage(1, 2, Layout.CONTIGUOUS);
        crossEntropy(losses, correct, logits, labels, 1, 0);
        both.assertClose("losses", losses, element);
        both.assertClose("gradient", logits, element);
    }

    @Test
    void sumOfSquares() {
        for (int i = 0; i < SIZES.length; i++) {
            checkSum(both.random(SIZES[(i * 5 + 1) % SIZES.length], SIZES[i], 1, layout(i)));
        }
        checkSum(both.random(1, LONG_ROW, 512, Layout.CONTIGUOUS));
        checkSum(both.random(3, LONG_ROW, 1e-3, Layout.STRIDED));
        checkSum(both.random(0, 5, 1, Layout.CONTIGUOUS));
    }

    private void checkSum(Pair x) {
        double expected = both.referenceOps().sumOfSquares(x.expected());
        Tensor mine = x.mine();
        // in double whatever the device's type
        assertEquals(expected, both.ops().sumOfSquares(mine), 1e-7 * expected, mine.toString());
        assertEquals(both.ops().sumOfSquares(mine), both.ops().sumOfSquares(mine), "fixed order");
    }
}
