package org.qlora4j.nf4.file;

import java.nio.file.Path;
import java.util.List;

/**
 * Where a tensor lies in a model file. It holds no data; {@link TensorFiles} reads it.
 *
 * @param name name in the file
 * @param type how the elements are stored
 * @param shape row-major, outermost dimension first, e.g. [out, in]; empty for a scalar
 * @param file the file that holds it
 * @param offset first byte, counted from the start of the file
 * @param byteLength stored bytes
 */
public record StoredTensor(String name, StorageType type, List<Long> shape, Path file, long offset, long byteLength) {

    /** @throws IllegalArgumentException if the byte length does not fit shape and type */
    public StoredTensor {
        shape = List.copyOf(shape);
        long expected = byteLength(type, shape);
        if (byteLength != expected || offset < 0) {
            throw new IllegalArgumentException("tensor '" + name + "' " + type.name() + " " + shape + " takes "
                    + expected + " bytes, got " + byteLength + " bytes at offset " + offset);
        }
    }

    /** Number of elements; 1 for a scalar. */
    public long elements() {
        return elements(shape);
    }

    /** Number of dimensions. */
    public int rank() {
        return shape.size();
    }

    /** Size of one dimension; 0 is the outermost. */
    public long dim(int index) {
        return shape.get(index);
    }

    /** Product of the dimensions; an ArithmeticException if it does not fit into a long. */
    static long elements(List<Long> shape) {
        long elements = 1;
        for (long size : shape) {
            elements = Math.multiplyExact(elements, size);
        }
        return elements;
    }

    /** Stored bytes of whole rows of blocks; an ArithmeticException if they do not fit into a long. */
    static long byteLength(StorageType type, List<Long> shape) {
        return Math.multiplyExact(elements(shape) / type.blockSize(), (long) type.blockBytes());
    }
}
