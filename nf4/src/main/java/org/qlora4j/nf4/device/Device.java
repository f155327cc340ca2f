package org.qlora4j.nf4.device;

import com.google.errorprone.annotations.MustBeClosed;
import java.nio.file.Path;
import java.util.Optional;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.nf4.parallel.DeviceCommunicator;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Memory and maths of one processor. Model code sees this interface, {@link Ops} and tensors, never a concrete device.
 *
 * <p>A device and everything made by it belong to one thread at a time: calls are not synchronized, results are ready
 * when a call that returns host data ({@code download}) returns.
 */
public interface Device extends AutoCloseable {
    /** {@code cpu}, {@code reference}, {@code cuda:0} … */
    String name();

    /** One line for people: what it is and how it computes. */
    String description();

    /** Type of activations and their gradients: F32 on the CPU, F64 on the reference device, BF16 on a GPU. */
    DType floatType();

    /**
     * Type of what must not lose digits: parameters and their gradients, norm weights, biases, rotary tables,
     * statistics of rows. {@link #floatType} unless that has 16 bits; then F32 ({@link DType#precise}).
     */
    default DType preciseType() {
        return floatType().precise();
    }

    /** What the operands of products with frozen weights are rounded to; {@link #floatType} if they are not. */
    default DType computeType() {
        return floatType();
    }

    /** Opens a scope; whoever opens it closes it. */
    @MustBeClosed
    Scope newScope();

    /**
     * Opens a scope whose tensors the system may move out of memory; they start as zeros and are for optimizer state
     * only ({@link OptimizerState}).
     *
     * @param folder on the disk that takes the bytes
     * @throws java.io.UncheckedIOException from the scope, if the disk is full
     */
    @MustBeClosed
    Scope newPagedScope(Path folder);

    /** The operations. Arguments are checked before any kernel runs. */
    Ops ops();

    /** Bytes held now, in open scopes and kept for reuse. */
    long bytesHeld();

    /** Largest {@link #bytesHeld()} so far. */
    long peakBytes();

    /**
     * Copies {@code values[offset …]} to all elements of {@code dst} in row order; converts to its floating point type.
     */
    void upload(Tensor dst, float[] values, int offset);

    /** As the float version; for gradient checks in double. */
    void upload(Tensor dst, double[] values, int offset);

    /** For I32 tensors. */
    void upload(Tensor dst, int[] values, int offset);

    /** For any tensor: the bytes as they lie in memory, little endian. */
    void upload(Tensor dst, byte[] values, int offset);

    /** Copies all elements in row order to {@code values[offset …]}, widened or rounded to fp32. */
    void download(Tensor src, float[] values, int offset);

    /** As the float version, in double. */
    void download(Tensor src, double[] values, int offset);

    /** For I32 tensors. */
    void download(Tensor src, int[] values, int offset);

    /** For any tensor: the bytes as they lie in memory, little endian. */
    void download(Tensor src, byte[] values, int offset);

    /**
     * Joins the devices of all ranks, if there is a way between them without the host. All ranks call this together and
     * have the same answer. Whoever asked closes it, before this device and the ranks.
     */
    default Optional<DeviceCommunicator> join(Communicator ranks) {
        return Optional.empty();
    }

    @Override
    void close();
}
