package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Where one forward or backward pass works: the operations, the scope that takes its tensors, and whether dropout is
 * on.
 *
 * @param training true in a training forward: dropout is applied
 * @param seed seed of this micro-batch's dropout masks
 */
record Step(Ops ops, Scope scope, boolean training, long seed) {
    /** The same pass with its tensors in another scope. */
    Step in(Scope other) {
        return new Step(ops, other, training, seed);
    }

    Tensor newTensor(int rows, int cols) {
        return scope.newTensor(rows, cols);
    }

    Tensor newPrecise(int rows, int cols) {
        return scope.newPrecise(rows, cols);
    }
}
