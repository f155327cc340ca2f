package org.qlora4j.nf4.parallel;

import java.util.List;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * How the devices of ranks exchange tensors without the host. Every call is made by all ranks together, in the same
 * order; it is ordered with the device's other work and may return before it is done. Tensors are contiguous rows of
 * the device's precise type.
 */
public interface DeviceCommunicator extends AutoCloseable {
    /** A tensor and the rank it goes to or comes from. */
    record Part(int rank, Tensor tensor) {}

    /**
     * Sends and receives at once. What this rank has for rank r goes, in order, to what rank r receives of this one;
     * this rank itself may be r.
     */
    void exchange(List<Part> send, List<Part> receive);

    /** Replaces the numbers by their sums over all ranks, in any order. */
    void sum(Tensor numbers);

    /** All ranks leave. */
    @Override
    void close();
}
