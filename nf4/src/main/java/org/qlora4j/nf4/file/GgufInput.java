package org.qlora4j.nf4.file;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * Reads the little-endian header of a GGUF file front to back; each read is checked against the size of the file first.
 */
final class GgufInput {
    /** The largest real headers (vocabularies of 262144 tokens with merges) have about 20 MB. */
    static final long MAX_HEADER_BYTES = 256_000_000;

    private static final int BUFFER_BYTES = 1 << 16;

    private final Path file;
    private final FileChannel channel;
    private final long limit;
    private final ByteBuffer buffer =
            ByteBuffer.allocate(BUFFER_BYTES).order(ByteOrder.LITTLE_ENDIAN).limit(0);
    /** File offset of the end of what the buffer holds. */
    private long bufferEnd;

    GgufInput(Path file, FileChannel channel) {
        this.file = file;
        this.channel = channel;
        this.limit = Math.min(TensorReader.size(file, channel), MAX_HEADER_BYTES);
    }

    long position() {
        return bufferEnd - buffer.remaining();
    }

    long remaining() {
        return limit - position();
    }

    int u8(String what) {
        return need(1, what).get() & 0xFF;
    }

    int u16(String what) {
        return need(2, what).getShort() & 0xFFFF;
    }

    int i32(String what) {
        return need(4, what).getInt();
    }

    long i64(String what) {
        return need(8, what).getLong();
    }

    float f32(String what) {
        return need(4, what).getFloat();
    }

    double f64(String what) {
        return need(8, what).getDouble();
    }

    /**
     * A count of things that take at least {@code minBytes} each.
     *
     * @throws ModelFormatException if that many cannot be in the rest of the file
     */
    int count(String what, long count, int minBytes, int most) {
        if (count < 0 || count > most) {
            throw new ModelFormatException(
                    file,
                    what + ": count " + Long.toUnsignedString(count) + " before offset " + position()
                            + " is above the limit of " + most);
        }
        if (count * minBytes > remaining()) {
            throw new ModelFormatException(
                    file,
                    what + ": count " + count + " before offset " + position() + " needs at least " + count * minBytes
                            + " bytes, only " + remaining() + " remain; the file is truncated or damaged");
        }
        return (int) count;
    }

    String string(String what) {
        long length = i64(what);
        if (length < 0 || length > remaining()) {
            throw new ModelFormatException(
                    file,
                    what + ": string of " + Long.toUnsignedString(length) + " bytes at offset " + position() + ", only "
                            + remaining() + " remain; the file is truncated or damaged");
        }
        byte[] bytes = new byte[(int) length];
        int buffered = Math.min(bytes.length, buffer.remaining());
        buffer.get(bytes, 0, buffered);
        if (buffered < bytes.length) {
            fill(what, ByteBuffer.wrap(bytes, buffered, bytes.length - buffered), bufferEnd);
            bufferEnd += bytes.length - buffered;
        }
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private ByteBuffer need(int bytes, String what) {
        if (buffer.remaining() < bytes) {
            if (remaining() < bytes) {
                throw new ModelFormatException(
                        file,
                        what + ": expected " + bytes + " bytes at offset " + position() + ", only " + remaining()
                                + " remain; the file is truncated");
            }
            buffer.compact();
            buffer.limit((int) Math.min(buffer.capacity(), buffer.position() + limit - bufferEnd));
            int before = buffer.position();
            fill(what, buffer, bufferEnd);
            bufferEnd += buffer.position() - before;
            buffer.flip();
        }
        return buffer;
    }

    private void fill(String what, ByteBuffer dst, long position) {
        if (!TensorReader.readFully(file, channel, position, dst)) {
            throw new ModelFormatException(file, what + ": the file ended while its header was read");
        }
    }
}
