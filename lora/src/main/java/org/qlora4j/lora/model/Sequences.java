package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Where each token of a pass stands: rows of several sequences lie one behind the other, each with its own positions.
 *
 * @param positions I32 [1, N]
 * @param offsets first row of each sequence, and the end
 * @param maxPosition the largest position
 */
record Sequences(Tensor positions, int[] offsets, int maxPosition) {
    /** Whole sequences, positions from 0 in each. */
    static Sequences whole(Device device, Scope scope, int[] offsets) {
        int n = offsets[offsets.length - 1];
        int[] positions = new int[n];
        int max = 0;
        for (int s = 0; s + 1 < offsets.length; s++) {
            for (int i = offsets[s]; i < offsets[s + 1]; i++) {
                positions[i] = i - offsets[s];
                max = Math.max(max, positions[i]);
            }
        }
        return new Sequences(upload(device, scope, positions), offsets, max);
    }

    /** The next {@code count} tokens of one sequence of which {@code past} tokens are in the key/value cache. */
    static Sequences next(Device device, Scope scope, int past, int count) {
        int[] positions = new int[count];
        for (int i = 0; i < count; i++) {
            positions[i] = past + i;
        }
        return new Sequences(upload(device, scope, positions), new int[] {0, count}, past + count - 1);
    }

    private static Tensor upload(Device device, Scope scope, int[] positions) {
        Tensor t = scope.newTensor(DType.I32, 1, positions.length);
        device.upload(t, positions, 0);
        return t;
    }

    AttentionShape attention(ModelConfig config, int[] keyOffsets) {
        return new AttentionShape(
                config.numHeads(), config.numKvHeads(), config.headDim(), config.attentionScale(), offsets, keyOffsets);
    }
}
