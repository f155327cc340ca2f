package org.qlora4j.nf4.file;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Optional;
import java.util.Set;

/**
 * The tensors of one model, in one file or several. Opening reads only the headers. All methods may be called from many
 * threads at once; each read needs about 1 MiB of its own, whatever the size of the tensor. A thread that is
 * interrupted inside a read closes the file for all ({@link java.nio.channels.ClosedByInterruptException}).
 */
public interface TensorFiles extends AutoCloseable {

    /**
     * Opens GGUF (recognised by its first four bytes) or safetensors.
     *
     * @param path a .gguf or .safetensors file, a .safetensors.index.json file, or a folder with model.safetensors or
     *     model.safetensors.index.json
     * @throws ModelFormatException if the content is damaged or not supported
     * @throws UncheckedIOException if it cannot be read
     */
    static TensorFiles open(Path path) {
        if (!Files.isDirectory(path) && startsLikeGguf(path)) {
            return Gguf.open(path);
        }
        return Safetensors.open(path);
    }

    private static boolean startsLikeGguf(Path path) {
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            ByteBuffer magic = ByteBuffer.allocate(4);
            return channel.read(magic) == 4 && magic.getInt(0) == Gguf.MAGIC_BIG_ENDIAN;
        } catch (IOException e) {
            throw new UncheckedIOException("cannot open " + path + ": " + e, e);
        }
    }

    /** What was opened: a file or a folder. */
    Path location();

    /** Names of all tensors, in file order. */
    Set<String> names();

    /** The tensor with this name, if there is one. */
    Optional<StoredTensor> find(String name);

    /**
     * The tensor with this name.
     *
     * @throws ModelFormatException if there is none
     */
    default StoredTensor get(String name) {
        return find(name)
                .orElseThrow(() -> new ModelFormatException(
                        location(),
                        "tensor '" + name + "' is missing; the model holds " + names().size()
                                + " tensors, the first are "
                                + names().stream().limit(3).toList()));
    }

    /**
     * Reads elements as float: F32 as it is, F16 and BF16 widened exactly, F64 rounded to nearest, GGUF blocks
     * dequantized.
     *
     * @param t a tensor of this model
     * @param firstElement first element in row-major order; a multiple of the type's block size
     * @param count number of elements; a multiple of the type's block size
     * @param dst destination
     * @param dstOffset where the first element goes in dst
     * @throws IllegalArgumentException if the range does not fit tensor, block size or dst, or the type holds integers
     * @throws ModelFormatException if the file ends too early
     */
    void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset);

    /**
     * All stored bytes of a small tensor.
     *
     * @throws IllegalArgumentException if it has 2 GiB or more; read those in pieces
     */
    byte[] readBytes(StoredTensor t);

    /**
     * Reads stored bytes until dst is full ({@code dst.remaining()} becomes 0).
     *
     * @param t a tensor of this model
     * @param offset first byte, counted from the start of the tensor
     * @param dst destination
     * @throws IllegalArgumentException if the range does not fit the tensor
     */
    void readBytes(StoredTensor t, long offset, ByteBuffer dst);

    /**
     * Reads {@code dst.byteSize()} stored bytes.
     *
     * @param t a tensor of this model
     * @param offset first byte, counted from the start of the tensor
     * @param dst destination, native or on the heap
     * @throws IllegalArgumentException if the range does not fit the tensor
     */
    void readBytes(StoredTensor t, long offset, MemorySegment dst);

    /** Closes the files; further reads throw IllegalStateException. */
    @Override
    void close();
}
