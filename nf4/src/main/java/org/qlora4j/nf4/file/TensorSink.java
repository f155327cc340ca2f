package org.qlora4j.nf4.file;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;

/** Takes the data of one tensor after another, in pieces of any size; used inside {@link SafetensorsWriter}. */
public final class TensorSink {
    private static final int BUFFER_BYTES = 1 << 20;

    private final FileChannel channel;
    private final ByteBuffer buffer = ByteBuffer.allocate(BUFFER_BYTES);
    private TensorSpec tensor;
    private long remainingBytes;

    TensorSink(FileChannel channel, TensorSpec first) {
        this.channel = channel;
        this.tensor = first;
    }

    void begin(TensorSpec next) {
        tensor = next;
        remainingBytes = next.byteLength();
    }

    void end() throws IOException {
        if (remainingBytes != 0) {
            throw new IllegalStateException("tensor '" + tensor.name() + "' " + tensor.shape() + ": " + remainingBytes
                    + " of " + tensor.byteLength() + " bytes were not written");
        }
        flush();
    }

    /** Bytes of the current tensor that are still to be written. */
    public long remainingBytes() {
        return remainingBytes;
    }

    /**
     * Writes floats in the tensor's dtype (F32, F16, BF16, F64), rounded to nearest even.
     *
     * @throws IllegalArgumentException if the dtype is not floating point
     * @throws IllegalStateException if the tensor has less room
     */
    public void writeFloats(float[] src, int offset, int count) throws IOException {
        int elementBytes = tensor.dtype().bytes();
        take((long) count * elementBytes);
        int done = 0;
        while (done < count) {
            if (buffer.remaining() < elementBytes) {
                flush();
            }
            int n = Math.min(count - done, buffer.remaining() / elementBytes);
            FloatFormats.encode(tensor.dtype(), src, offset + done, n, buffer);
            done += n;
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
            throw new IllegalStateException("tensor '" + tensor.name() + "' " + tensor.shape() + " has room for "
                    + remainingBytes + " more bytes, got " + bytes);
        }
        remainingBytes -= bytes;
    }

    private void flush() throws IOException {
        buffer.flip();
        AtomicFile.writeFully(channel, buffer);
        buffer.clear();
    }
}
