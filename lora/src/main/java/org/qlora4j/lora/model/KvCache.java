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
    private final int[] ids;
    private int length;

    /** @param capacity largest number of tokens */
    KvCache(ModelConfig config, int capacity, Scope scope) {
        this.ids = new int[capacity];
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
        return ids.length;
    }

    Layer layer(int i) {
        return layers.get(i);
    }

    /** How many tokens, the last ones, have not been through the model. */
    int waiting() {
        return length - layers.getFirst().length;
    }

    /** Copies the first {@code count} of those to {@code to[at …]}. */
    void copyWaiting(int[] to, int at, int count) {
        System.arraycopy(ids, length - waiting(), to, at, count);
    }

    /**
     * Adds tokens. All of the sequence must go through the model again where it becomes one that is turned by other
     * rotary frequencies from its first token on.
     */
    void accept(int[] next, ModelConfig config) {
        int border = config.longRowsAbove();
        boolean crossing = length + next.length > border && (length <= border || config.ropeChangesWithLength());
        System.arraycopy(next, 0, ids, length, next.length);
        length += next.length;
        if (crossing) {
            layers.forEach(layer -> layer.length = 0);
        }
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
