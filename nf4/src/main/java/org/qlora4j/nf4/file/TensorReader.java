package org.qlora4j.nf4.file;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.DType;

/** Positional reads from the open files of one model: the part that safetensors and GGUF have in common. */
final class TensorReader implements AutoCloseable {
    // a read into a heap buffer copies through a native buffer of the same size that the JDK keeps per thread
    private static final int CHUNK_BYTES = 1 << 20;
    private static final long DIRECT_CHUNK_BYTES = 1L << 30;

    /** Which file it is, and when it was written last. Null where the system does not say. */
    private record Stamp(@Nullable Object key, FileTime written) {
        static @Nullable Stamp of(Path file) {
            try {
                BasicFileAttributes attributes = Files.readAttributes(file, BasicFileAttributes.class);
                return new Stamp(attributes.fileKey(), attributes.lastModifiedTime());
            } catch (IOException e) {
                // removed: what is open stays as it is
                return null;
            }
        }

        /** A file of another key has taken the name; the one that is open stays as it is. */
        boolean isChangedTo(Stamp now) {
            return Objects.equals(key, now.key) && !written.equals(now.written);
        }
    }

    private final Map<Path, FileChannel> channels = new LinkedHashMap<>();
    private final Map<Path, Stamp> stamps = new ConcurrentHashMap<>();

    /**
     * Opens a file for reading; it is closed with this reader. Not thread-safe: called only while a model is being
     * opened.
     */
    FileChannel add(Path file) {
        FileChannel open = channels.get(file);
        if (open == null) {
            Stamp stamp = Stamp.of(file);
            open = open(file);
            channels.put(file, open);
            if (stamp != null) {
                stamps.put(file, stamp);
            }
        }
        return open;
    }

    private static FileChannel open(Path file) {
        try {
            return FileChannel.open(file, StandardOpenOption.READ);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot open " + file + ": " + e, e);
        }
    }

    static long size(Path file, FileChannel channel) {
        try {
            return channel.size();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read the size of " + file + ": " + e, e);
        }
    }

    void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        int blockSize = t.type().blockSize();
        if (!t.type().readsAsFloats()) {
            throw new IllegalArgumentException("tensor '" + t.name() + "' holds "
                    + t.type().name() + ", which is not a floating point type; use readBytes");
        }
        if (firstElement < 0 || count < 0 || firstElement > t.elements() - count) {
            throw new IllegalArgumentException("elements " + firstElement + " .. +" + count + " are outside of tensor '"
                    + t.name() + "' with " + t.elements() + " elements");
        }
        if (firstElement % blockSize != 0 || count % blockSize != 0) {
            throw new IllegalArgumentException(
                    "tensor '" + t.name() + "' is stored in " + t.type().name() + " blocks of " + blockSize
                            + "; first element " + firstElement + " and count " + count + " must be multiples of it");
        }
        if (dstOffset < 0 || dstOffset > dst.length - count) {
            throw new IllegalArgumentException(
                    "dst of " + dst.length + " floats has no room for " + count + " at " + dstOffset);
        }
        int blockBytes = t.type().blockBytes();
        int blocksLeft = count / blockSize;
        int blocksPerChunk = CHUNK_BYTES / blockBytes;
        byte[] chunk = new byte[Math.min(blocksLeft, blocksPerChunk) * blockBytes];
        long position = firstElement / blockSize * blockBytes;
        int out = dstOffset;
        while (blocksLeft > 0) {
            int blocks = Math.min(blocksLeft, blocksPerChunk);
            readBytes(t, position, ByteBuffer.wrap(chunk, 0, blocks * blockBytes));
            decode(t.type(), chunk, blocks, dst, out);
            position += (long) blocks * blockBytes;
            out += blocks * blockSize;
            blocksLeft -= blocks;
        }
    }

    private static void decode(StorageType type, byte[] chunk, int blocks, float[] dst, int dstOffset) {
        switch (type) {
            case StorageType.Plain plain -> decodePlain(plain.type(), chunk, blocks, dst, dstOffset);
            case GgufType gguf -> {
                if (gguf.dtype().isPresent()) {
                    decodePlain(gguf.dtype().get(), chunk, blocks, dst, dstOffset);
                } else {
                    GgufBlocks.dequantize(gguf, chunk, 0, blocks, dst, dstOffset);
                }
            }
        }
    }

    private static void decodePlain(DType type, byte[] chunk, int count, float[] dst, int dstOffset) {
        FloatFormats.decode(type, ByteBuffer.wrap(chunk), dst, dstOffset, count);
    }

    byte[] readBytes(StoredTensor t) {
        if (t.byteLength() > Integer.MAX_VALUE - 8) {
            throw new IllegalArgumentException("tensor '" + t.name() + "' has " + t.byteLength()
                    + " bytes, too many for one array; read it in pieces");
        }
        byte[] bytes = new byte[(int) t.byteLength()];
        readBytes(t, 0, ByteBuffer.wrap(bytes));
        return bytes;
    }

    void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        checkRange(t, offset, dst.remaining());
        readFully(t, channel(t), t.offset() + offset, dst);
    }

    void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        checkRange(t, offset, dst.byteSize());
        FileChannel channel = channel(t);
        long chunk = dst.isNative() ? DIRECT_CHUNK_BYTES : CHUNK_BYTES;
        for (long done = 0; done < dst.byteSize(); done += chunk) {
            MemorySegment part = dst.asSlice(done, Math.min(chunk, dst.byteSize() - done));
            if (dst.isNative()) {
                readFully(t, channel, t.offset() + offset + done, part.asByteBuffer());
            } else {
                // a segment over a float[] or long[] has no ByteBuffer view
                byte[] bytes = new byte[(int) part.byteSize()];
                readFully(t, channel, t.offset() + offset + done, ByteBuffer.wrap(bytes));
                part.copyFrom(MemorySegment.ofArray(bytes));
            }
        }
    }

    private static void checkRange(StoredTensor t, long offset, long bytes) {
        if (offset < 0 || offset > t.byteLength() - bytes) {
            throw new IllegalArgumentException("bytes " + offset + " .. +" + bytes + " are outside of tensor '"
                    + t.name() + "' with " + t.byteLength() + " bytes");
        }
    }

    private FileChannel channel(StoredTensor t) {
        FileChannel channel = channels.get(t.file());
        if (channel == null) {
            throw new IllegalArgumentException(
                    "tensor '" + t.name() + "' lies in " + t.file() + ", which is not a file of this model");
        }
        return channel;
    }

    private void readFully(StoredTensor t, FileChannel channel, long position, ByteBuffer dst) {
        if (!readFully(t.file(), channel, position, dst)) {
            throw ModelFormatException.ofTensor(
                    t.file(),
                    t.name(),
                    "the file ended inside the tensor's bytes "
                            + t.offset() + " .. " + (t.offset() + t.byteLength())
                            + "; it was truncated after it was opened");
        }
        Stamp before = stamps.get(t.file());
        Stamp now = Stamp.of(t.file());
        if (before != null && now != null && before.isChangedTo(now)) {
            throw ModelFormatException.ofTensor(
                    t.file(),
                    t.name(),
                    "the file was written to while it was read (then of " + before.written + ", now of " + now.written
                            + "); start again when it stays as it is");
        }
    }

    /** Fills dst from a position of the file; false if the file ends before dst is full. */
    static boolean readFully(Path file, FileChannel channel, long position, ByteBuffer dst) {
        int limit = dst.limit();
        try {
            long at = position;
            while (dst.position() < limit) {
                dst.limit(dst.isDirect() ? limit : Math.min(limit, dst.position() + CHUNK_BYTES));
                int read = channel.read(dst, at);
                if (read < 0) {
                    return false;
                }
                at += read;
                dst.limit(limit);
            }
            return true;
        } catch (ClosedByInterruptException e) {
            throw new UncheckedIOException("reading " + file + " was interrupted; the file is closed now", e);
        } catch (ClosedChannelException e) {
            throw new IllegalStateException(file + " is closed", e);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + file + " at offset " + position + ": " + e, e);
        } finally {
            dst.limit(limit);
        }
    }

    @Override
    public void close() {
        IOException failure = null;
        for (FileChannel channel : channels.values()) {
            try {
                channel.close();
            } catch (IOException e) {
                failure = e;
            }
        }
        if (failure != null) {
            throw new UncheckedIOException("cannot close a model file: " + failure, failure);
        }
    }
}
