package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.List;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Rotated keys and values of the tokens of one sequence, for each layer; its memory belongs to the scope it was made
 * in.
 */
public final class KvCache {
    private final List<Layer> layers = new ArrayList<>();
    private final int capacity;
    private int length;

    /** @param capacity largest number of tokens */
    KvCache(ModelConfig config, int capacity, Scope scope) {
        this.capacity = capacity;
        int width = config.numKvHeads() * config.headDim();
        for (int i = 0; i < config.numLayers(); i++) {
            layers.add(new Layer(scope.newTensor(capacity, width), scope.newTensor(capacity, width)));
        }
    }

    /** Tokens held. */
    public int length() {
        return length;
    }

    /** Largest number of tokens. */
    public int capacity() {
        return capacity;
    }

    Layer layer(int i) {
        return layers.get(i);
    }

    void advance(int tokens) {
        length += tokens;
    }

    /** One layer's keys and values, [capacity, Hkv·D] each. */
    static final class Layer {
        private final Tensor keys;
        private final Tensor values;
        private int length;

        private Layer(Tensor keys, Tensor values) {
            this.keys = keys;
            this.values = values;
        }

        void append(Tensor newKeys, Tensor newValues, Ops ops) {
            ops.copy(keys.rows(length, newKeys.rows()), newKeys);
            ops.copy(values.rows(length, newValues.rows()), newValues);
            length += newKeys.rows();
        }

        Tensor keys() {
            return keys.rows(0, length);
        }

        Tensor values() {
            return values.rows(0, length);
        }
    }
}
