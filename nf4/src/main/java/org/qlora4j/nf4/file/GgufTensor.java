package org.qlora4j.nf4.file;

import java.util.Arrays;
import java.util.List;

/**
 * A tensor to be written to a GGUF file.
 *
 * @param name name in the file, at most 64 bytes
 * @param type F32, F16, BF16, Q8_0 or Q4_0
 * @param shape row-major, outermost dimension first, one to four of them
 */
public record GgufTensor(String name, GgufType type, List<Long> shape) {
    /** ggml's GGML_MAX_NAME, less the terminating zero. */
    private static final int MAX_NAME = 63;

    private static final int MAX_RANK = 4;

    /** @throws IllegalArgumentException if name, rank, size or type cannot be written */
    public GgufTensor {
        shape = List.copyOf(shape);
        if (name.isEmpty() || name.length() > MAX_NAME) {
            throw new IllegalArgumentException("a name in GGUF has 1 to " + MAX_NAME + " letters, got '" + name + "'");
        }
        if (shape.isEmpty() || shape.size() > MAX_RANK || shape.stream().anyMatch(size -> size < 1)) {
            throw new IllegalArgumentException(
                    "tensor '" + name + "' must have 1 to 4 dimensions of at least 1, got " + shape);
        }
        boolean isFloat = type == GgufType.F32 || type == GgufType.F16 || type == GgufType.BF16;
        if (!isFloat && !GgufQuantizer.knows(type)) {
            throw new IllegalArgumentException(
                    "tensor '" + name + "': " + type + " cannot be written; can be: F32, F16, BF16, Q8_0, Q4_0");
        }
        if (shape.getLast() % type.blockSize() != 0) {
            throw new IllegalArgumentException("tensor '" + name + "': rows of " + shape.getLast() + " are not whole "
                    + type + " blocks of " + type.blockSize());
        }
        try {
            StoredTensor.byteLength(type, shape);
        } catch (ArithmeticException e) {
            throw new IllegalArgumentException("size of tensor '" + name + "' " + shape + " overflows 64 bits", e);
        }
    }

    /** Shape given as numbers. */
    public static GgufTensor of(String name, GgufType type, long... shape) {
        return new GgufTensor(name, type, Arrays.stream(shape).boxed().toList());
    }

    /** Bytes in the file. */
    public long byteLength() {
        return StoredTensor.byteLength(type, shape);
    }
}
