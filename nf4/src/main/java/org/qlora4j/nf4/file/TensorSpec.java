package org.qlora4j.nf4.file;

import java.util.Arrays;
import java.util.List;
import org.qlora4j.nf4.tensor.DType;

/**
 * A tensor to be written.
 *
 * @param name name in the file
 * @param dtype element type in the file
 * @param shape row-major, outermost dimension first; empty for a scalar
 */
public record TensorSpec(String name, DType dtype, List<Long> shape) {

    /** @throws IllegalArgumentException if a dimension is negative, the size overflows, or the name is reserved */
    public TensorSpec {
        shape = List.copyOf(shape);
        if (name.equals(SafetensorsHeader.METADATA)) {
            throw new IllegalArgumentException("a tensor must not be named " + name + ", safetensors reserves it");
        }
        if (shape.stream().anyMatch(size -> size < 0)) {
            throw new IllegalArgumentException("tensor '" + name + "' has a negative dimension: " + shape);
        }
        try {
            StoredTensor.byteLength(new StorageType.Plain(dtype), shape);
        } catch (ArithmeticException e) {
            throw new IllegalArgumentException("size of tensor '" + name + "' " + shape + " overflows 64 bits", e);
        }
    }

    /** Shape given as numbers. */
    public static TensorSpec of(String name, DType dtype, long... shape) {
        return new TensorSpec(name, dtype, Arrays.stream(shape).boxed().toList());
    }

    /** Number of elements. */
    public long elements() {
        return StoredTensor.elements(shape);
    }

    /** Bytes in the file. */
    public long byteLength() {
        return elements() * dtype.bytes();
    }
}
