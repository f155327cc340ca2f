package org.qlora4j.nf4.device;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Host memory that the system may write to disk when it needs the room: each tensor is a mapped file, zero at first.
 * The file is written in full before it is mapped, so that a full disk is an exception here and not the end of the
 * process later, and it has no name any more once it is mapped, so that nobody can shorten it and none is left behind.
 * Only Java code reads and writes it; {@link CheckedOps} keeps such tensors from everything but optimizer steps.
 */
final class PagedScope implements Scope {
    private static final int CHUNK = 1 << 20;

    private final String deviceName;
    private final DType floatType;
    private final Path folder;
    private final Arena arena = Arena.ofShared();
    private long bytes;
    private boolean open = true;

    PagedScope(String deviceName, DType floatType, Path folder) {
        this.deviceName = deviceName;
        this.floatType = floatType;
        this.folder = folder;
    }

    @Override
    public Tensor newTensor(DType dtype, int rows, int cols) {
        if (!open) {
            throw new IllegalStateException(
                    deviceName + ": cannot allocate [" + rows + ", " + cols + "], the scope is closed");
        }
        long size = Math.max(1, Math.multiplyExact((long) rows * cols, dtype.bytes()));
        MemorySegment segment = map(size);
        bytes += size;
        return new Tensor(this, dtype, rows, cols, cols, segment.address());
    }

    private MemorySegment map(long size) {
        try {
            Files.createDirectories(folder);
            Path file = Files.createTempFile(folder, ".paged-", ".state");
            try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
                ByteBuffer zeros = ByteBuffer.allocateDirect(CHUNK);
                for (long done = 0; done < size; done += zeros.position()) {
                    zeros.clear().limit((int) Math.min(CHUNK, size - done));
                    while (zeros.hasRemaining()) {
                        channel.write(zeros);
                    }
                }
                return channel.map(FileChannel.MapMode.READ_WRITE, 0, size, arena);
            } finally {
                Files.deleteIfExists(file);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(
                    "cannot make " + size + " bytes of paged optimizer state in " + folder + ": " + e, e);
        }
    }

    @Override
    public Tensor newTensor(int rows, int cols) {
        return newTensor(floatType, rows, cols);
    }

    @Override
    public Tensor newPrecise(int rows, int cols) {
        return newTensor(floatType.precise(), rows, cols);
    }

    @Override
    public long bytes() {
        return bytes;
    }

    @Override
    public String deviceName() {
        return deviceName;
    }

    @Override
    public boolean isOpen() {
        return open;
    }

    @Override
    public boolean isPaged() {
        return true;
    }

    @Override
    public void close() {
        if (open) {
            open = false;
            arena.close();
        }
    }
}
