package org.qlora4j.nf4.device;

import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Memory;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Allocates tensors and frees all of them on close. Scopes are cheap: a device keeps freed memory for the next scope,
 * so that a training step allocates nothing from the system once it has run a few times.
 */
public interface Scope extends Memory, AutoCloseable {
    /**
     * A contiguous tensor whose content is undefined; rows start 64 bytes aligned only for the first one.
     *
     * @throws OutOfDeviceMemoryException if the device has no room
     */
    Tensor newTensor(DType dtype, int rows, int cols);

    /** A tensor of the device's {@link Device#floatType}; content undefined. */
    Tensor newTensor(int rows, int cols);

    /** A tensor of the device's {@link Device#preciseType}; content undefined. */
    Tensor newPrecise(int rows, int cols);

    /** Bytes handed out so far, with padding. */
    long bytes();

    @Override
    void close();
}
