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
 * @param lengths of the sequences, with the tokens that came in earlier passes and those that come in later ones
 * @param longest of the lengths
 */
record Sequences(Tensor positions, int[] offsets, int[] lengths, int longest) {
    /** Whole sequences, positions from 0 in each. */
    static Sequences whole(Device device, Scope scope, int[] offsets) {
        int[] lengths = new int[offsets.length - 1];
        for (int s = 0; s < lengths.length; s++) {
            lengths[s] = offsets[s + 1] - offsets[s];
        }
        return next(device, scope, offsets, new int[lengths.length], lengths);
    }

    /** Parts of sequences. @param past tokens of each that are in its key/value cache */
    static Sequences next(Device device, Scope scope, int[] offsets, int[] past, int[] lengths) {
        int[] positions = new int[offsets[lengths.length]];
        int longest = 0;
        for (int s = 0; s < lengths.length; s++) {
            for (int i = offsets[s]; i < offsets[s + 1]; i++) {
                positions[i] = past[s] + i - offsets[s];
            }
            longest = Math.max(longest, lengths[s]);
        }
        Tensor t = scope.newTensor(DType.I32, 1, positions.length);
        device.upload(t, positions, 0);
        return new Sequences(t, offsets, lengths, longest);
    }
}
