package org.qlora4j.nf4.device.reference;

import static org.qlora4j.nf4.device.HostElements.get;
import static org.qlora4j.nf4.device.HostElements.set;

import java.util.Arrays;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.tensor.Tensor;

/** Causal grouped-query attention over packed sequences, one query row and head at a time. */
final class ReferenceAttention {
    private ReferenceAttention() {}

    /** One query of one head: the columns of its head, and the key rows it sees. */
    private record Query(int row, int head, int column, int kvColumn, int firstKey, int endKey) {}

    @FunctionalInterface
    private interface Body {
        void run(Query query);
    }

    private static void forEachQuery(AttentionShape shape, Body body) {
        int group = shape.numHeads() / shape.numKvHeads();
        for (int s = 0; s < shape.sequences(); s++) {
            int sequenceKey = shape.keyOffsets()[s];
            int endQuery = shape.queryOffsets()[s + 1];
            for (int row = shape.queryOffsets()[s]; row < endQuery; row++) {
                int endKey = shape.keyOffsets()[s + 1] - (endQuery - 1 - row);
                int firstKey = sequenceKey + shape.firstSeen(endKey - sequenceKey);
                for (int h = 0; h < shape.numHeads(); h++) {
                    body.run(new Query(row, h, h * shape.headDim(), h / group * shape.headDim(), firstKey, endKey));
                }
            }
        }
    }

    static void forward(Tensor out, Tensor logSumExp, Tensor q, Tensor k, Tensor v, AttentionShape shape) {
        forEachQuery(shape, it -> {
            double[] scores = scores(it, q, k, shape);
            double max = Arrays.stream(scores).max().orElseThrow();
            double sum = 0;
            for (double score : scores) {
                sum += Math.exp(score - max);
            }
            for (int d = 0; d < shape.headDim(); d++) {
                double mean = 0;
                for (int j = it.firstKey; j < it.endKey; j++) {
                    mean += Math.exp(scores[j - it.firstKey] - max) / sum * get(v, j, it.kvColumn + d);
                }
                set(out, it.row, it.column + d, mean);
            }
            set(logSumExp, it.head, it.row, max + Math.log(sum));
        });
    }

    /**
     * With p the softmax and s the scores: {@code dv = pᵀ·dOut, ds = p ⊙ (dOut·vᵀ − Σ dOut ⊙ out)}; before a softcap
     * {@code ds ⊙ (1 − (s/softcap)²)}.
     */
    static void backward(
            Tensor dq,
            Tensor dk,
            Tensor dv,
            Tensor dOut,
            Tensor out,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v,
            AttentionShape shape) {
        zero(dq);
        zero(dk);
        zero(dv);
        forEachQuery(shape, it -> {
            double[] scores = scores(it, q, k, shape);
            double delta = dot(dOut, it.row, it.column, out, it.row, it.column, shape.headDim());
            for (int j = it.firstKey; j < it.endKey; j++) {
                double p = Math.exp(scores[j - it.firstKey] - get(logSumExp, it.head, it.row));
                double dp = dot(dOut, it.row, it.column, v, j, it.kvColumn, shape.headDim());
                double ds = p * (dp - delta) * capGradient(scores[j - it.firstKey], shape) * shape.scale();
                for (int d = 0; d < shape.headDim(); d++) {
                    add(dv, j, it.kvColumn + d, p * get(dOut, it.row, it.column + d));
                    add(dq, it.row, it.column + d, ds * get(k, j, it.kvColumn + d));
                    add(dk, j, it.kvColumn + d, ds * get(q, it.row, it.column + d));
                }
            }
        });
    }

    private static double[] scores(Query it, Tensor q, Tensor k, AttentionShape shape) {
        double[] scores = new double[it.endKey - it.firstKey];
        for (int j = it.firstKey; j < it.endKey; j++) {
            double score = shape.scale() * dot(q, it.row, it.column, k, j, it.kvColumn, shape.headDim());
            scores[j - it.firstKey] =
                    shape.softcap() == 0 ? score : shape.softcap() * Math.tanh(score / shape.softcap());
        }
        return scores;
    }

    /** Derivative of the softcap where it gave this score. */
    private static double capGradient(double score, AttentionShape shape) {
        double t = shape.softcap() == 0 ? 0 : score / shape.softcap();
        return 1 - t * t;
    }

    private static double dot(Tensor a, int rowA, int colA, Tensor b, int rowB, int colB, int n) {
        double sum = 0;
        for (int d = 0; d < n; d++) {
            sum += get(a, rowA, colA + d) * get(b, rowB, colB + d);
        }
        return sum;
    }

    private static void add(Tensor t, int row, int col, double value) {
        set(t, row, col, get(t, row, col) + value);
    }

    private static void zero(Tensor t) {
        for (int r = 0; r < t.rows(); r++) {
            for (int c = 0; c < t.cols(); c++) {
                set(t, r, c, 0);
            }
        }
    }
}
