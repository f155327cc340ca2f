package org.qlora4j.nf4.file;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Reads a GGUF file, version 2 or 3, little-endian, in one part. Shapes are given row-major, [out, in]; names and the
 * layout of rotary weights are llama.cpp's.
 *
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md">the format</a>
 */
public final class Gguf implements TensorFiles {
    static final int MAGIC_BIG_ENDIAN = 'G' << 24 | 'G' << 16 | 'U' << 8 | 'F';

    private final Path file;
    private final TensorReader reader;
    private final GgufHeader header;

    private Gguf(Path file, TensorReader reader, GgufHeader header) {
        this.file = file;
        this.reader = reader;
        this.header = header;
    }

    /**
     * Opens a file and reads its header.
     *
     * @throws ModelFormatException if the content is damaged, or a tensor has a type that is not in {@link GgufType}
     * @throws java.io.UncheckedIOException if it cannot be read
     */
    public static Gguf open(Path file) {
        TensorReader reader = new TensorReader();
        try {
            return new Gguf(file, reader, GgufHeader.read(file, reader.add(file)));
        } catch (RuntimeException | Error e) {
            reader.close();
            throw e;
        }
    }

    /** Version of the format: 2 or 3. */
    public int version() {
        return header.version();
    }

    /**
     * All metadata in file order. Values are String, Long (all integer types), Double (both float types), Boolean, or
     * an unmodifiable List of these.
     */
    public Map<String, Object> metadata() {
        return header.metadata();
    }

    /**
     * A metadata string, e.g. {@code general.architecture}.
     *
     * @throws ModelFormatException if the value has another type
     */
    public Optional<String> text(String key) {
        return metadata(key, String.class, "a string");
    }

    /**
     * A metadata integer, e.g. {@code llama.block_count}.
     *
     * @throws ModelFormatException if the value has another type
     */
    public Optional<Long> integer(String key) {
        return metadata(key, Long.class, "an integer");
    }

    /**
     * A metadata number, e.g. {@code llama.rope.freq_base}; integers are widened.
     *
     * @throws ModelFormatException if the value has another type
     */
    public Optional<Double> number(String key) {
        return metadata(key, Number.class, "a number").map(Number::doubleValue);
    }

    /**
     * A metadata boolean, e.g. {@code tokenizer.ggml.add_bos_token}.
     *
     * @throws ModelFormatException if the value has another type
     */
    public Optional<Boolean> bool(String key) {
        return metadata(key, Boolean.class, "a bool");
    }

    /**
     * A metadata array whose elements all have one class: String, Long, Double, Boolean or List.
     *
     * @throws ModelFormatException if the value is no array or an element has another type
     */
    public <T> Optional<List<T>> array(String key, Class<T> elementType) {
        return metadata(key, List.class, "an array").map(list -> typed(key, list, elementType));
    }

    private <T> List<T> typed(String key, List<?> list, Class<T> elementType) {
        for (Object element : list) {
            if (!elementType.isInstance(element)) {
                throw new ModelFormatException(
                        file,
                        "metadata '" + key + "': expected an array of " + elementType.getSimpleName() + ", found "
                                + element.getClass().getSimpleName());
            }
        }
        @SuppressWarnings("unchecked") // each element was checked above, and the list cannot be modified
        List<T> checked = (List<T>) list;
        return checked;
    }

    private <T> Optional<T> metadata(String key, Class<T> type, String expected) {
        Object value = header.metadata().get(key);
        if (value == null) {
            return Optional.empty();
        }
        if (!type.isInstance(value)) {
            throw new ModelFormatException(
                    file,
                    "metadata '" + key + "': expected " + expected + ", found "
                            + value.getClass().getSimpleName());
        }
        return Optional.of(type.cast(value));
    }

    @Override
    public Path location() {
        return file;
    }

    @Override
    public Set<String> names() {
        return header.tensors().keySet();
    }

    @Override
    public Optional<StoredTensor> find(String name) {
        return Optional.ofNullable(header.tensors().get(name));
    }

    @Override
    public void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        reader.readFloats(t, firstElement, count, dst, dstOffset);
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        return reader.readBytes(t);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        reader.readBytes(t, offset, dst);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        reader.readBytes(t, offset, dst);
    }

    @Override
    public void close() {
        reader.close();
    }
}
