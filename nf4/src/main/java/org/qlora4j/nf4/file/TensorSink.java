package org.qlora4j.nf4.file;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.util.List;
import org.qlora4j.nf4.tensor.DType;

/**
 * Takes the data of one tensor after another, in pieces; used inside {@link SafetensorsWriter} and {@link GgufWriter}.
 */
public final class TensorSink {
    private static final int BUFFER_BYTES = 1 << 20;

    private final FileChannel channel;
    private final ByteBuffer buffer = ByteBuffer.allocate(BUFFER_BYTES).order(ByteOrder.LITTLE_ENDIAN);
    private String tensor = "";
    private StorageType type = new StorageType.Plain(DType.U8);
    private long byteLength;
    private long remainingBytes;

    TensorSink(FileChannel channel) {
        this.channel = channel;
    }

    void begin(String name, StorageType storage, List<Long> shape) {
        tensor = "tensor '" + name + "' " + shape;
        type = storage;
        byteLength = StoredTensor.byteLength(storage, shape);
        remainingBytes = byteLength;
    }

    void end() throws IOException {
        if (remainingBytes != 0) {
            throw new IllegalStateException(
                    tensor + ": " + remainingBytes + " of " + byteLength + " bytes were not written");
        }
        flush();
    }

    /** Bytes of the current tensor that are still to be written. */
    public long remainingBytes() {
        return remainingBytes;
    }

    /**
     * Writes floats in the tensor's type: F32, F16, BF16, F64 rounded to nearest even, or quantized to blocks.
     *
     * @throws IllegalArgumentException if the type holds integers, or count is no multiple of its block size
     * @throws IllegalStateException if the tensor has less room
     */
    public void writeFloats(float[] src, int offset, int count) throws IOException {
        int blockSize = type.blockSize();
        if (count % blockSize != 0) {
            throw new IllegalArgumentException(tensor + " is stored in blocks of " + blockSize + "; got " + count
                    + " elements, which are no whole blocks");
        }
        int blocks = count / blockSize;
        take((long) blocks * type.blockBytes());
        int done = 0;
        while (done < blocks) {
            if (buffer.remaining() < type.blockBytes()) {
                flush();
            }
            int n = Math.min(blocks - done, buffer.remaining() / type.blockBytes());
            encode(src, offset + done * blockSize, n);
            done += n;
        }
    }

    private void encode(float[] src, int from, int blocks) {
        DType plain = type.dtype().orElse(null);
        if (plain != null) {
            FloatFormats.encode(plain, src, from, blocks, buffer);
        } else if (type instanceof GgufType gguf) {
            GgufQuantizer.quantize(gguf, src, from, blocks, buffer);
        }
    }

    /**
     * Writes bytes as they are; they must be little-endian already.
     *
     * @throws IllegalStateException if the tensor has less room
     */
    public void write(byte[] src) throws IOException {
        write(ByteBuffer.wrap(src));
    }

    /** Writes the remaining bytes of src as they are; see {@link #write(byte[])}. */
    public void write(ByteBuffer src) throws IOException {
        take(src.remaining());
        while (src.hasRemaining()) {
            if (!buffer.hasRemaining()) {
                flush();
            }
            int n = Math.min(src.remaining(), buffer.remaining());
            buffer.put(src.slice(src.position(), n));
            src.position(src.position() + n);
        }
    }

    /** Writes a segment, native or on the heap, as it is; see {@link #write(byte[])}. */
    public void write(MemorySegment src) throws IOException {
        take(src.byteSize());
        long done = 0;
        while (done < src.byteSize()) {
            if (!buffer.hasRemaining()) {
                flush();
            }
            int n = (int) Math.min(src.byteSize() - done, buffer.remaining());
            MemorySegment.copy(src, done, MemorySegment.ofBuffer(buffer), 0, n);
            buffer.position(buffer.position() + n);
            done += n;
        }
    }

    private void take(long bytes) {
        if (bytes > remainingBytes) {
            throw new IllegalStateException(tensor + " has room for " + remainingBytes + " more bytes, got " + bytes);
        }
        remainingBytes -= bytes;
    }

    private void flush() throws IOException {
        buffer.flip();
        AtomicFile.writeFully(channel, buffer);
        buffer.clear();
    }
}
