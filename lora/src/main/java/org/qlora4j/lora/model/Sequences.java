package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Where each token of a pass stands: rows of several sequences lie one behind the other, each with its own positions.
 *
 * @param positions I32 [1, N]
 * @param offsets first row of each sequence, and the end
 * @param past tokens of each sequence that came in earlier passes and are in the key/value cache
 * @param longest the length of the longest sequence, past tokens included
 */
record Sequences(Tensor positions, int[] offsets, int past, int longest) {
    /** Whole sequences, positions from 0 in each. */
    static Sequences whole(Device device, Scope scope, int[] offsets) {
        return of(device, scope, offsets, 0);
    }

    /** The next {@code count} tokens of one sequence of which {@code past} tokens are in the key/value cache. */
    static Sequences next(Device device, Scope scope, int past, int count) {
        return of(device, scope, new int[] {0, count}, past);
    }

    private static Sequences of(Device device, Scope scope, int[] offsets, int past) {
        int[] positions = new int[offsets[offsets.length - 1]];
        int longest = 0;
        for (int s = 0; s + 1 < offsets.length; s++) {
            for (int i = offsets[s]; i < offsets[s + 1]; i++) {
                positions[i] = past + i - offsets[s];
            }
            longest = Math.max(longest, past + offsets[s + 1] - offsets[s]);
        }
        Tensor t = scope.newTensor(DType.I32, 1, positions.length);
        device.upload(t, positions, 0);
        return new Sequences(t, offsets, past, longest);
    }

    /** Tokens of sequence s, past tokens included. */
    int length(int s) {
        return past + offsets[s + 1] - offsets[s];
    }
}
