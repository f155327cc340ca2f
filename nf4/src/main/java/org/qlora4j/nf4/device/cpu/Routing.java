package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static org.qlora4j.nf4.device.cpu.CpuOps.intAt;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.tensor.Tensor;

/** One token's choice of experts, see {@link org.qlora4j.nf4.device.Ops#topKSoftmax}. */
final class Routing {
    private Routing() {}

    static void forward(Kernels kernels, Tensor weights, Tensor chosen, Tensor logits, int r, boolean normalize) {
        int k = weights.cols();
        int experts = logits.cols();
        long row = logits.rowAddress(r);
        long mine = chosen.address() + 4L * r * k;
        for (int j = 0; j < k; j++) {
            HostMemory.ALL.set(JAVA_INT_UNALIGNED, mine + 4L * j, largest(row, experts, mine, j));
        }
        double sum = kernels.exp(row, row, 1, kernels.max(row, experts), experts);
        kernels.axpby(row, (float) (1 / sum), row, 0, experts);
        long out = weights.rowAddress(r);
        float chosenSum = 0;
        for (int j = 0; j < k; j++) {
            float p = get(row + 4L * intAt(mine, j));
            set(out + 4L * j, p);
            chosenSum += p;
        }
        for (int j = 0; normalize && j < k; j++) {
            // divided, so that the weight of a single expert is 1 and has no gradient
            set(out + 4L * j, get(out + 4L * j) / chosenSum);
        }
    }

    /** The column of the largest element that is not among the first {@code taken} chosen ones. */
    private static int largest(long row, int n, long chosen, int taken) {
        int best = -1;
        for (int e = 0; e < n; e++) {
            if ((best < 0 || get(row + 4L * e) > get(row + 4L * best)) && !contains(chosen, taken, e)) {
                best = e;
            }
        }
        return best;
    }

    private static boolean contains(long chosen, int count, int e) {
        for (int j = 0; j < count; j++) {
            if (intAt(chosen, j) == e) {
                return true;
            }
        }
        return false;
    }

    static void backward(
            Kernels kernels,
            Tensor dLogits,
            Tensor dWeights,
            Tensor weights,
            Tensor chosen,
            Tensor probabilities,
            int r,
            boolean normalize) {
        int k = weights.cols();
        long out = dLogits.rowAddress(r);
        long d = dWeights.rowAddress(r);
        long w = weights.rowAddress(r);
        float mean = kernels.dot(d, w, k);
        // normalized weights are the softmax of the chosen logits alone
        kernels.axpby(out, normalize ? 0 : -mean, probabilities.rowAddress(r), 0, dLogits.cols());
        for (int j = 0; j < k; j++) {
            long e = out + 4L * intAt(chosen.address(), r * k + j);
            float own = get(d + 4L * j) - (normalize ? mean : 0);
            set(e, get(e) + get(w + 4L * j) * own);
        }
    }
}
