package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Which tokens go to which expert. The S = N·k pairs of a token and one of its experts are sorted by expert, in the
 * order of tokens within one: what goes to an expert are neighbouring rows.
 *
 * @param offsets expert e has the rows {@code offsets[e]} to {@code offsets[e + 1] - 1}
 * @param tokens I32 [1, S]: the token of each row
 * @param pairs I32 [1, S]: where the row stands in the router's choice, {@code token·k + rank}
 */
record Routes(int[] offsets, Tensor tokens, Tensor pairs) {
    /** Sorts a router's choice. @param chosen I32 [1, N·k] @param k experts of a token */
    static Routes of(Tensor chosen, int k, int experts, Device device, Step step) {
        int[] choice = new int[chosen.cols()];
        device.download(chosen, choice, 0);
        int[] offsets = new int[experts + 1];
        for (int e : choice) {
            offsets[e + 1]++;
        }
        for (int e = 0; e < experts; e++) {
            offsets[e + 1] += offsets[e];
        }
        int[] next = offsets.clone();
        int[] tokens = new int[choice.length];
        int[] pairs = new int[choice.length];
        for (int pair = 0; pair < choice.length; pair++) {
            int row = next[choice[pair]]++;
            tokens[row] = pair / k;
            pairs[row] = pair;
        }
        return new Routes(offsets, upload(tokens, device, step), upload(pairs, device, step));
    }

    private static Tensor upload(int[] values, Device device, Step step) {
        Tensor t = step.scope().newTensor(DType.I32, 1, values.length);
        device.upload(t, values, 0);
        return t;
    }

    /** S. */
    int rows() {
        return tokens.cols();
    }

    /** The rows of one expert. @param t [S, columns] */
    Tensor of(int expert, Tensor t) {
        return t.rows(offsets[expert], offsets[expert + 1] - offsets[expert]);
    }
}
