package org.qlora4j.optim.report;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.zip.CRC32C;

/**
 * One of TensorBoard's event files: records of a length, its checksum, a protocol buffer {@code Event}, its checksum.
 * What is written is on its way to the disk when a call returns, so TensorBoard can follow a running training.
 *
 * @see <a href="https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto">event.proto</a>
 */
final class EventFile implements AutoCloseable {
    // field number << 3 | wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes
    private static final int EVENT_WALL_TIME = 1 << 3 | 1;
    private static final int EVENT_STEP = 2 << 3;
    private static final int EVENT_FILE_VERSION = 3 << 3 | 2;
    private static final int EVENT_SUMMARY = 5 << 3 | 2;
    private static final int SUMMARY_VALUE = 1 << 3 | 2;
    private static final int VALUE_TAG = 1 << 3 | 2;
    private static final int VALUE_SIMPLE = 2 << 3 | 5;

    private static final int MASK_DELTA = 0xa282ead8;

    private final Path file;
    private final FileChannel channel;

    /** Creates {@code events.out.tfevents.TIME.HOST} in a folder, which is created if missing. */
    EventFile(Path folder, double seconds, String host) {
        file = folder.resolve("events.out.tfevents." + (long) seconds + "." + host);
        try {
            Files.createDirectories(folder);
            channel = FileChannel.open(
                    file, StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.APPEND);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot create " + file + ": " + e, e);
        }
        byte[] version = "brain.Event:2".getBytes(StandardCharsets.US_ASCII);
        ByteBuffer event = buffer(32).put((byte) EVENT_WALL_TIME).putDouble(seconds);
        event.put((byte) EVENT_FILE_VERSION).put((byte) version.length).put(version);
        record(event.flip());
    }

    /** One number. @param seconds since 1970 */
    void scalar(String tag, long step, double seconds, float value) {
        byte[] name = tag.getBytes(StandardCharsets.UTF_8);
        ByteBuffer v = buffer(16 + name.length).put((byte) VALUE_TAG);
        varint(v, name.length);
        v.put(name).put((byte) VALUE_SIMPLE).putFloat(value).flip();
        ByteBuffer summary = buffer(8 + v.remaining()).put((byte) SUMMARY_VALUE);
        varint(summary, v.remaining());
        summary.put(v).flip();
        ByteBuffer event =
                buffer(40 + summary.remaining()).put((byte) EVENT_WALL_TIME).putDouble(seconds);
        varint(event.put((byte) EVENT_STEP), step);
        varint(event.put((byte) EVENT_SUMMARY), summary.remaining());
        record(event.put(summary).flip());
    }

    private static ByteBuffer buffer(int bytes) {
        return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static void varint(ByteBuffer to, long value) {
        long rest = value;
        for (; (rest & ~0x7fL) != 0; rest >>>= 7) {
            to.put((byte) (rest & 0x7f | 0x80));
        }
        to.put((byte) rest);
    }

    private void record(ByteBuffer event) {
        ByteBuffer record = buffer(16 + event.remaining());
        record.putLong(event.remaining());
        record.putInt(maskedCrc(record.array(), 0, 8));
        int start = record.position();
        int length = event.remaining();
        record.put(event);
        record.putInt(maskedCrc(record.array(), start, length)).flip();
        try {
            while (record.hasRemaining()) {
                channel.write(record);
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + file + ": " + e, e);
        }
    }

    /** TFRecord's checksum: CRC-32C, turned and shifted so that checksums of checksums are no trap. */
    static int maskedCrc(byte[] bytes, int offset, int length) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, offset, length);
        return Integer.rotateRight((int) crc.getValue(), 15) + MASK_DELTA;
    }

    @Override
    public void close() {
        try {
            channel.close();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot close " + file + ": " + e, e);
        }
    }
}
