package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.device.TwoDevices.Pair;
import org.qlora4j.nf4.device.TwoDevices.WeightPair;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** Products, and weights in every form. */
abstract class ProductContract extends DeviceContract {
    private static final double[] BETAS = {0, 1, 0.5};

    /** [N, W.rows, W.cols] */
    private static final int[][] WEIGHT_SHAPES = {
        {1, 1, 1},
        {1, 64, 64},
        {1, 65, 100},
        {2, 7, 129},
        {3, 16, 31},
        {4, 33, 192},
        {5, 100, 65},
        {8, 3, 256},
        {17, 129, 7},
        {33, 40, 64},
        {65, 24, 96},
        {130, 8, 130}
    };

    @ParameterizedTest
    @CsvSource({"false,false", "false,true", "true,false", "true,true"})
    void matmul(boolean transA, boolean transB) {
        for (int i = 0; i < SIZES.length; i++) {
            int m = SIZES[i];
            int n = SIZES[(i * 5 + 3) % SIZES.length];
            int k = SIZES[(i * 7 + 1) % SIZES.length];
            product(m, n, k, transA, transB, BETAS[i % 3], i % 2 == 0 ? 1 : -1.5, layout(i / 2));
        }
        product(1, 129, 300, transA, transB, 0, 1, Layout.STRIDED);
        product(2, 8, 1100, transA, transB, 1, 0.25, Layout.CONTIGUOUS);
        product(129, 8, 100, transA, transB, 0, 1, Layout.CONTIGUOUS);
        product(100, 8, 300, transA, transB, 1, 2, Layout.STRIDED);
        product(8, 100, 129, transA, transB, 1, 2, Layout.STRIDED);
        product(100, 129, 8, transA, transB, 0, 4, Layout.STRIDED);
    }

    private void product(
            int m, int n, int k, boolean transA, boolean transB, double beta, double alpha, Layout layout) {
        Pair a = both.random(transA ? k : m, transA ? m : k, 1, layout);
        Pair b = both.random(transB ? n : k, transB ? k : n, 1, layout);
        Pair out = beta == 0 ? both.garbage(m, n, layout) : both.random(m, n, 1, layout);
        both.ops().matmul(out.mine(), a.mine(), transA, b.mine(), transB, alpha, beta);
        both.referenceOps().matmul(out.expected(), a.expected(), transA, b.expected(), transB, alpha, beta);
        String what = "matmul m=" + m + " n=" + n + " k=" + k + (transA ? " aᵀ" : "") + (transB ? " bᵀ" : "")
                + " alpha=" + alpha + " beta=" + beta + " " + layout;
        both.assertClose(what, out, sum(k));
    }

    @Test
    void matmulOfNothingScalesTheResult() {
        Pair a = both.random(3, 0, 1, Layout.CONTIGUOUS);
        Pair b = both.random(0, 4, 1, Layout.CONTIGUOUS);
        Pair kept = both.random(3, 4, 1, Layout.STRIDED);
        both.ops().matmul(kept.mine(), a.mine(), false, b.mine(), false, 1, 0.5);
        both.referenceOps().matmul(kept.expected(), a.expected(), false, b.expected(), false, 1, 0.5);
        both.assertClose("matmul k=0 beta=0.5", kept, element);
        Pair zero = both.garbage(3, 4, Layout.STRIDED);
        both.ops().matmul(zero.mine(), a.mine(), false, b.mine(), false, 1, 0);
        both.referenceOps().matmul(zero.expected(), a.expected(), false, b.expected(), false, 1, 0);
        both.assertSame("matmul k=0 beta=0", zero);
    }

    @Test
    void matmulOfAMatrixWithItself() {
        Pair a = both.random(31, 31, 1, Layout.CONTIGUOUS);
        Pair out = both.garbage(31, 31, Layout.CONTIGUOUS);
        both.ops().matmul(out.mine(), a.mine(), true, a.mine(), false, 1, 0);
        both.referenceOps().matmul(out.expected(), a.expected(), true, a.expected(), false, 1, 0);
        both.assertClose("matmul aᵀ·a", out, sum(31));
    }

    @Test
    void matmulAtEveryScale() {
        for (double scale : SCALES) {
            Pair a = both.random(13, 65, scale, Layout.CONTIGUOUS);
            Pair b = both.random(17, 65, 1 / scale, Layout.CONTIGUOUS);
            Pair out = both.garbage(13, 17, Layout.CONTIGUOUS);
            both.ops().matmul(out.mine(), a.mine(), false, b.mine(), true, scale, 0);
            both.referenceOps().matmul(out.expected(), a.expected(), false, b.expected(), true, scale, 0);
            both.assertClose("matmul scale " + scale, out, sum(65));
        }
    }

    @Test
    void matmulGivesTheSameBitsTwice() {
        Pair a = both.random(65, 129, 1, Layout.CONTIGUOUS);
        WeightPair w = both.quantized(QuantType.NF4, 64, true, 100, 129);
        Pair first = both.garbage(65, 100, Layout.CONTIGUOUS);
        Pair second = both.garbage(65, 100, Layout.CONTIGUOUS);
        both.ops().matmul(first.mine(), a.mine(), w.mine(), true, 0);
        both.ops().matmul(second.mine(), a.mine(), w.mine(), true, 0);
        assertArrayEquals(both.values(first.mine()), both.values(second.mine()));
    }

    /** All forms a weight of this shape can have; block sizes take turns. */
    private List<WeightPair> weights(int rows, int cols, int turn) {
        List<WeightPair> weights = new ArrayList<>();
        for (DType type : denseTypes()) {
            weights.add(both.dense(type, rows, cols));
        }
        weights.add(both.int8(rows, cols));
        for (QuantType type : QuantType.values()) {
            for (boolean nested : new boolean[] {false, true}) {
                weights.add(both.quantized(type, 32 << turn++ % 8, nested, rows, cols));
                weights.add(both.quantized(type, 64, nested, rows, cols));
            }
        }
        return weights;
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void weightMatmul(boolean transW) {
        for (int i = 0; i < WEIGHT_SHAPES.length; i++) {
            int[] s = WEIGHT_SHAPES[i];
            int turn = i;
            for (WeightPair w : weights(s[1], s[2], i)) {
                weightProduct(s[0], w, transW, BETAS[turn % 3], layout(turn / 3));
                turn++;
            }
        }
    }

    /** all block sizes, on every device. */
    @ParameterizedTest
    @ValueSource(ints = {32, 64, 128, 256, 512, 1024, 2048, 4096})
    void weightMatmulWithEveryBlockSize(int blockSize) {
        for (QuantType type : QuantType.values()) {
            for (boolean nested : new boolean[] {false, true}) {
                for (int[] shape : new int[][] {{16, 576}, {19, 493}, {5, 1024}}) {
                    WeightPair w = both.quantized(type, blockSize, nested, shape[0], shape[1]);
                    weightProduct(1, w, true, 0, Layout.CONTIGUOUS);
                    weightProduct(6, w, true, 1, Layout.STRIDED);
                    weightProduct(2, w, false, 0, Layout.CONTIGUOUS);
                }
            }
        }
    }

    private void weightProduct(int n, WeightPair w, boolean transW, double beta, Layout layout) {
        int in = transW ? w.mine().cols() : w.mine().rows();
        int outCols = transW ? w.mine().rows() : w.mine().cols();
        Pair x = both.random(n, in, 1, layout);
        Pair out = beta == 0 ? both.garbage(n, outCols, layout) : both.random(n, outCols, 1, layout);
        both.ops().matmul(out.mine(), x.mine(), w.mine(), transW, beta);
        both.referenceOps().matmul(out.expected(), x.expected(), w.expected(), transW, beta);
        both.assertClose(
                "matmul n=" + n + " with " + w.name() + (transW ? "ᵀ" : "") + " beta=" + beta + " " + layout,
                out,
                sum(in));
    }

    @Test
    void embeddingBackwardAddsInOrder() {
        for (int i = 0; i < SIZES.length; i++) {
            int rows = SIZES[(i * 5 + 3) % SIZES.length];
            int vocabulary = SIZES[(i * 3 + 1) % SIZES.length];
            Pair dTable = both.preciseRandom(vocabulary, SIZES[i], 1, layout(i));
            Pair ids = both.randomIndices(rows, vocabulary);
            Pair dOut = both.random(rows, SIZES[i], 1, layout(i / 2));
            both.ops().embeddingBackward(dTable.mine(), ids.mine(), dOut.mine());
            both.referenceOps().embeddingBackward(dTable.expected(), ids.expected(), dOut.expected());
            both.assertClose("embeddingBackward " + rows + " of " + vocabulary, dTable, sum(rows));
        }
    }

    @Test
    void inverseRowNorms() {
        for (int i = 0; i < WEIGHT_SHAPES.length; i++) {
            int[] s = WEIGHT_SHAPES[i];
            for (WeightPair w : weights(s[1], s[2], i)) {
                lengths(w, 1 + i % 5, i % 2 == 0 ? 0.25 : -2, layout(i));
            }
        }
        // several panels
        lengths(both.quantized(QuantType.NF4, 64, true, 70, 5000), 3, 0.5, Layout.CONTIGUOUS);
    }

    private void lengths(WeightPair w, int rank, double scale, Layout layout) {
        Pair a = both.preciseRandom(rank, w.mine().cols(), 1, layout);
        Pair b = both.preciseRandom(w.mine().rows(), rank, 1, layout);
        Pair out = both.preciseGarbage(1, w.mine().rows(), Layout.CONTIGUOUS);
        both.ops().inverseRowNorms(out.mine(), w.mine(), a.mine(), b.mine(), scale);
        both.referenceOps().inverseRowNorms(out.expected(), w.expected(), a.expected(), b.expected(), scale);
        // a row of one element may nearly cancel: W + s·b·a has the rounding error of its terms
        double terms = w.mine().cols() == 1 ? 100 * element : 4 * element;
        both.assertClose("inverseRowNorms of " + w.name() + " rank " + rank + " scale " + scale, out, terms);
    }

    @Test
    void inverseNormOfARowOfZerosIsZero() {
        Pair values = both.make(2, 3, Layout.CONTIGUOUS, new double[] {0, 0, 0, 3, 0, 4});
        Pair a = both.preciseMake(1, 3, Layout.CONTIGUOUS, new double[] {1, 2, 3});
        Pair b = both.preciseMake(2, 1, Layout.CONTIGUOUS, new double[2]);
        Pair out = both.preciseGarbage(1, 2, Layout.CONTIGUOUS);
        both.ops().inverseRowNorms(out.mine(), new Weight.Dense(values.mine()), a.mine(), b.mine(), 1);
        assertArrayEquals(new double[] {0, 0.2}, both.values(out.mine()), 1e-7);
    }

    @Test
    void nestedScalesWithMoreThanOneSecondBlock() {
        // 32 · 256 elements a second-level block: three of them, the last one short
        WeightPair w = both.quantized(QuantType.NF4, 32, true, 70, 300);
        Pair out = both.garbage(70, 300, Layout.CONTIGUOUS);
        both.ops().dequantize(out.mine(), w.mine());
        both.referenceOps().dequantize(out.expected(), w.expected());
        both.assertSame("dequantize " + w.name(), out);
        weightProduct(1, w, true, 0, Layout.CONTIGUOUS);
        weightProduct(9, w, true, 0, Layout.CONTIGUOUS);
    }

    @Test
    void dequantizeToTheBit() {
        for (int i = 0; i < WEIGHT_SHAPES.length; i++) {
            int[] s = WEIGHT_SHAPES[i];
            for (WeightPair w : weights(s[1], s[2], i)) {
                Pair out = both.garbage(s[1], s[2], layout(i));
                both.ops().dequantize(out.mine(), w.mine());
                both.referenceOps().dequantize(out.expected(), w.expected());
                both.assertSame("dequantize " + w.name(), out);
            }
        }
    }

    @Test
    void embeddingToTheBit() {
        for (int i = 0; i < WEIGHT_SHAPES.length; i++) {
            int[] s = WEIGHT_SHAPES[i];
            for (WeightPair table : weights(s[1], s[2], i)) {
                Pair ids = both.randomIndices(s[0], s[1]);
                Pair out = both.garbage(s[0], s[2], layout(i));
                both.ops().embedding(out.mine(), ids.mine(), table.mine());
                both.referenceOps().embedding(out.expected(), ids.expected(), table.expected());
                both.assertSame("embedding " + table.name(), out);
            }
        }
    }
}
