package org.qlora4j.nf4.device;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.device.TwoDevices.Pair;
import org.qlora4j.nf4.device.TwoDevices.WeightPair;
import org.qlora4j.nf4.device.cuda.CudaDevice;
import org.qlora4j.nf4.device.cuda.CudaSimulator;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;

/**
 * What {@link BarrierTest} runs in a process of its own, since a kernel without one of its barriers may write anywhere.
 * Takes out one barrier after the other, from the number given on, and prints whether any operation's result changes.
 */
final class BarrierProgram {
    /** Each launch has another order of threads. */
    private static final int RUNS = 4;

    private static final Map<String, Consumer<BarrierProgram>> OPERATIONS = new LinkedHashMap<>();

    static {
        OPERATIONS.put("crossEntropy", BarrierProgram::crossEntropy);
        OPERATIONS.put("norms", BarrierProgram::norms);
        OPERATIONS.put("columnDots", BarrierProgram::columnDots);
        OPERATIONS.put("dequantize", BarrierProgram::dequantize);
        OPERATIONS.put("inverseRowNorms", BarrierProgram::inverseRowNorms);
        OPERATIONS.put("routing", BarrierProgram::routing);
        OPERATIONS.put("embeddingBackward", BarrierProgram::embeddingBackward);
        OPERATIONS.put("decoding", BarrierProgram::decoding);
        OPERATIONS.put("attention of 64", run -> run.attention(64));
        OPERATIONS.put("attention of 128", run -> run.attention(128));
    }

    private final TwoDevices both;
    private final List<Tensor> results = new ArrayList<>();

    private BarrierProgram(TwoDevices both) {
        this.both = both;
    }

    public static void main(String[] args) {
        CudaSimulator.install();
        Map<String, Integer> right = new HashMap<>();
        Map<String, List<String>> reached = new HashMap<>();
        for (String operation : OPERATIONS.keySet()) {
            List<String> before = CudaSimulator.barriers();
            int hash = hash(operation);
            if (hash != hash(operation)) {
                throw new AssertionError(operation + ": the result depends on the order of threads");
            }
            right.put(operation, hash);
            List<String> added = new ArrayList<>(CudaSimulator.barriers());
            added.removeAll(before);
            reached.put(operation, added);
        }
        List<String> barriers = CudaSimulator.barriers();
        for (int i = Integer.parseInt(args[0]); i < barriers.size(); i++) {
            String barrier = barriers.get(i);
            System.out.println("without " + i + " " + barrier);
            CudaSimulator.skipBarrier(i);
            // the operation that came to it first is the likeliest to tell
            List<String> order = new ArrayList<>(OPERATIONS.keySet());
            order.sort(Comparator.comparing(o -> !reached.get(o).contains(barrier)));
            boolean seen = false;
            for (int run = 0; run < order.size() * RUNS && !seen; run++) {
                String operation = order.get(run / RUNS);
                seen = hash(operation) != right.get(operation);
            }
            System.out.println(seen ? "seen" : "unseen");
        }
        CudaSimulator.skipBarrier(-1);
        System.out.println("ends");
    }

    /** Of all results of an operation on new inputs, always the same. */
    private static int hash(String operation) {
        try (TwoDevices both = new TwoDevices(new CudaDevice(0), 7)) {
            BarrierProgram run = new BarrierProgram(both);
            OPERATIONS.get(operation).accept(run);
            int hash = 1;
            for (Tensor t : run.results) {
                hash = 31 * hash + Arrays.hashCode(both.values(t));
            }
            return hash;
        }
    }

    private Pair random(int rows, int cols) {
        return both.random(rows, cols, 1, Layout.CONTIGUOUS);
    }

    private Tensor result(Pair pair) {
        results.add(pair.mine());
        return pair.mine();
    }

    private Tensor newResult(int rows, int cols) {
        return result(both.garbage(rows, cols, Layout.CONTIGUOUS));
    }

    private Tensor newPrecise(int rows, int cols) {
        return result(both.preciseGarbage(rows, cols, Layout.CONTIGUOUS));
    }

    private void crossEntropy() {
        int n = 20;
        Tensor logits = result(both.random(n, 3000, 8, Layout.CONTIGUOUS));
        Tensor labels = both.randomIndices(n, 3000).mine();
        both.ops().crossEntropy(newPrecise(1, n), newPrecise(1, n), logits, labels, 1, 0.1);
    }

    private void norms() {
        Tensor x = random(3, 2048).mine();
        Tensor weight = both.preciseRandom(1, 2048, 1, Layout.CONTIGUOUS).mine();
        Tensor rstd = newPrecise(1, 3);
        both.ops().rmsNorm(newResult(3, 2048), rstd, x, weight, 1e-6);
        both.ops().rmsNormBackward(newResult(3, 2048), random(3, 2048).mine(), x, rstd, weight, 0);
    }

    private void columnDots() {
        Pair out = both.preciseRandom(1, 100, 1, Layout.CONTIGUOUS);
        both.ops()
                .columnDots(
                        result(out), random(300, 100).mine(), random(300, 100).mine());
    }

    private void dequantize() {
        WeightPair w = both.quantized(QuantType.NF4, 64, true, 64, 256);
        both.ops().dequantize(newResult(64, 256), w.mine());
    }

    private void inverseRowNorms() {
        WeightPair w = both.quantized(QuantType.NF4, 64, false, 8, 2048);
        Tensor a = both.preciseRandom(4, 2048, 1, Layout.CONTIGUOUS).mine();
        Tensor b = both.preciseRandom(8, 4, 1, Layout.CONTIGUOUS).mine();
        both.ops().inverseRowNorms(newPrecise(1, 8), w.mine(), a, b, 0.5);
    }

    private void routing() {
        Tensor probabilities = result(both.preciseRandom(40, 16, 1, Layout.CONTIGUOUS));
        Tensor weights = newPrecise(40, 4);
        Tensor chosen = both.indices(new int[160]).mine();
        both.ops().topKSoftmax(weights, chosen, probabilities, true);
        Tensor dWeights = both.preciseRandom(40, 4, 1, Layout.CONTIGUOUS).mine();
        both.ops().topKSoftmaxBackward(newPrecise(40, 16), dWeights, weights, chosen, probabilities, true);
    }

    private void embeddingBackward() {
        Pair table = both.preciseRandom(50, 64, 1, Layout.CONTIGUOUS);
        both.ops()
                .embeddingBackward(
                        result(table),
                        both.randomIndices(700, 50).mine(),
                        random(700, 64).mine());
    }

    private void decoding() {
        AttentionShape shape = new AttentionShape(4, 2, 64, 0.125, new int[] {0, 1, 2}, new int[] {0, 300, 500});
        both.ops()
                .attention(
                        newResult(2, 256),
                        newPrecise(4, 2),
                        random(2, 256).mine(),
                        random(500, 128).mine(),
                        random(500, 128).mine(),
                        shape);
    }

    private void attention(int headDim) {
        int n = 150;
        int[] offsets = {0, 90, n};
        AttentionShape shape = new AttentionShape(2, 1, headDim, 0.1, offsets, offsets);
        Tensor q = random(n, 2 * headDim).mine();
        Tensor k = random(n, headDim).mine();
        Tensor v = random(n, headDim).mine();
        Tensor out = newResult(n, 2 * headDim);
        Tensor logSumExp = newPrecise(2, n);
        both.ops().attention(out, logSumExp, q, k, v, shape);
        both.ops()
                .attentionBackward(
                        newResult(n, 2 * headDim),
                        newResult(n, headDim),
                        newResult(n, headDim),
                        random(n, 2 * headDim).mine(),
                        out,
                        logSumExp,
                        q,
                        k,
                        v,
                        shape);
    }
}
