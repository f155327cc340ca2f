package org.qlora4j.nf4.device.reference;

import static org.qlora4j.nf4.device.HostElements.get;
import static org.qlora4j.nf4.device.HostElements.index;
import static org.qlora4j.nf4.device.HostElements.set;
import static org.qlora4j.nf4.device.HostElements.setIndex;

import org.qlora4j.nf4.tensor.Tensor;

/** The choice of experts, see {@link org.qlora4j.nf4.device.Ops#topKSoftmax}. */
final class ReferenceRouting {
    private ReferenceRouting() {}

    static void forward(Tensor weights, Tensor chosen, Tensor logits, boolean normalize) {
        int k = weights.cols();
        for (int i = 0; i < logits.rows(); i++) {
            boolean[] taken = new boolean[logits.cols()];
            for (int j = 0; j < k; j++) {
                int best = largest(logits, i, taken);
                taken[best] = true;
                setIndex(chosen, i * k + j, best);
            }
            softmax(logits, i);
            double sum = 0;
            for (int j = 0; j < k; j++) {
                sum += get(logits, i, index(chosen, i * k + j));
            }
            for (int j = 0; j < k; j++) {
                set(weights, i, j, get(logits, i, index(chosen, i * k + j)) / (normalize ? sum : 1));
            }
        }
    }

    private static int largest(Tensor t, int row, boolean[] taken) {
        int best = -1;
        for (int e = 0; e < t.cols(); e++) {
            if (!taken[e] && (best < 0 || get(t, row, e) > get(t, row, best))) {
                best = e;
            }
        }
        return best;
    }

    private static void softmax(Tensor t, int row) {
        double max = Double.NEGATIVE_INFINITY;
        for (int e = 0; e < t.cols(); e++) {
            max = Math.max(max, get(t, row, e));
        }
        double sum = 0;
        for (int e = 0; e < t.cols(); e++) {
            sum += Math.exp(get(t, row, e) - max);
        }
        for (int e = 0; e < t.cols(); e++) {
            set(t, row, e, Math.exp(get(t, row, e) - max) / sum);
        }
    }

    static void backward(
            Tensor dLogits, Tensor dWeights, Tensor weights, Tensor chosen, Tensor probabilities, boolean normalize) {
        int k = weights.cols();
        for (int i = 0; i < dLogits.rows(); i++) {
            double mean = 0;
            for (int j = 0; j < k; j++) {
                mean += get(dWeights, i, j) * get(weights, i, j);
            }
            // normalized weights are the softmax of the chosen logits alone
            for (int e = 0; e < dLogits.cols(); e++) {
                set(dLogits, i, e, normalize ? 0 : -get(probabilities, i, e) * mean);
            }
            for (int j = 0; j < k; j++) {
                int e = index(chosen, i * k + j);
                double own = normalize ? get(dWeights, i, j) - mean : get(dWeights, i, j);
                set(dLogits, i, e, get(dLogits, i, e) + get(weights, i, j) * own);
            }
        }
    }
}
