package org.qlora4j.nf4.file;

import java.util.Optional;
import org.qlora4j.nf4.tensor.DType;

/** How the elements of a tensor lie in a file: one by one ({@link Plain}) or in quantized blocks ({@link GgufType}). */
public sealed interface StorageType permits StorageType.Plain, GgufType {

    /** The name the file format uses, e.g. {@code BF16} or {@code Q4_K}. */
    String name();

    /** Elements in one block; 1 for plain types. */
    int blockSize();

    /** Bytes of one block; the element size for plain types. */
    int blockBytes();

    /** The element type of a plain type; empty for block types. */
    Optional<DType> dtype();

    /** True if {@link TensorFiles#readFloats} can read it: floating point, or quantized blocks. */
    default boolean readsAsFloats() {
        return dtype().map(DType::isFloat).orElse(true);
    }

    /**
     * Elements stored one by one, little-endian.
     *
     * @param type the element type
     */
    record Plain(DType type) implements StorageType {
        @Override
        public String name() {
            return type.name();
        }

        @Override
        public int blockSize() {
            return 1;
        }

        @Override
        public int blockBytes() {
            return type.bytes();
        }

        @Override
        public Optional<DType> dtype() {
            return Optional.of(type);
        }
    }
}
