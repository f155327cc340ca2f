package org.qlora4j.nf4.device;

import com.google.errorprone.annotations.MustBeClosed;
import java.util.ArrayList;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Scopes over the memory of one device. Freed memory is kept and reused, so that a loop that allocates the same sizes
 * in every round takes nothing from its source after the first. Addresses of host memory are valid offsets into
 * {@link HostMemory#ALL}.
 *
 * <p>Not synchronized: it belongs to its device, which belongs to one thread at a time. Closing it frees all memory,
 * also that of scopes that are still open; they count as closed from then on.
 */
public final class PooledScopes implements AutoCloseable {
    /** Every tensor starts at a multiple of it: a cache line, and the widest vector register. */
    public static final int ALIGNMENT = 64;

    /** Larger tensors get a chunk of their own size, so that at most an eighth of a 4 MiB chunk is left over. */
    private static final long LARGE_TENSOR = MemoryPool.SMALL_CHUNK / 8;

    private final MemoryPool pool;
    private final DType floatType;
    private final boolean poison;
    private int openScopes;

    /** In host memory, without a limit. @param floatType type of {@link Scope#newTensor(int, int)} */
    public PooledScopes(String deviceName, DType floatType) {
        this(new MemoryPool(deviceName, Long.MAX_VALUE / 2, MemorySource.host()), floatType, false);
    }

    /**
     * In host memory.
     *
     * @param deviceName what {@link Scope#deviceName()} answers
     * @param floatType type of {@link Scope#newTensor(int, int)}
     * @param limitBytes most bytes to hold at any time, beyond which {@link OutOfDeviceMemoryException} is thrown
     * @param poison whether a new tensor is filled with bytes 0xFF, NaN in every floating point type, to make reads of
     *     undefined content visible
     */
    public PooledScopes(String deviceName, DType floatType, long limitBytes, boolean poison) {
        this(new MemoryPool(deviceName, checkLimit(limitBytes), MemorySource.host()), floatType, poison);
    }

    private PooledScopes(MemoryPool pool, DType floatType, boolean poison) {
        this.pool = pool;
        this.floatType = floatType;
        this.poison = poison;
    }

    /** Of a device with memory of its own. @param source where it comes from */
    public PooledScopes(String deviceName, DType floatType, MemorySource source) {
        this(new MemoryPool(deviceName, Long.MAX_VALUE / 2, source), floatType, false);
    }

    /** Scopes that count as the others do but hold no memory: nothing may read or write their tensors. */
    static PooledScopes dry(String deviceName, DType floatType) {
        return new PooledScopes(deviceName, floatType, MemorySource.dry());
    }

    private static long checkLimit(long limitBytes) {
        if (limitBytes < 0 || limitBytes > Long.MAX_VALUE / 2) {
            throw new IllegalArgumentException("limitBytes must be from 0 to 2^62, got " + limitBytes);
        }
        return limitBytes;
    }

    /**
     * Opens a scope; whoever opens it closes it. Scopes may be closed in any order.
     *
     * @throws IllegalStateException after {@link #close()}
     */
    @MustBeClosed
    public Scope newScope() {
        if (!pool.isOpen()) {
            throw new IllegalStateException(pool.deviceName() + ": cannot open a scope, the device is closed");
        }
        return new PooledScope();
    }

    /** Bytes taken from the system and not given back: in open scopes and kept for reuse. */
    public long bytesHeld() {
        return pool.held();
    }

    /** The part of {@link #bytesHeld()} that no open scope uses. */
    public long bytesIdle() {
        return pool.idleBytes();
    }

    /** Largest {@link #bytesHeld()} so far. */
    public long peakBytes() {
        return pool.peak();
    }

    /** How often memory was taken from the system so far: constant in the steady state. */
    public long systemAllocations() {
        return pool.systemAllocations();
    }

    /** Scopes opened and not closed. */
    public int openScopes() {
        return openScopes;
    }

    @Override
    public void close() {
        pool.close();
        openScopes = 0;
    }

    private final class PooledScope implements Scope {
        private final ArrayList<MemoryPool.Chunk> chunks = new ArrayList<>();
        private MemoryPool.@Nullable Chunk current;
        private long used;
        private long bytes;
        private boolean open = true;

        PooledScope() {
            openScopes++;
        }

        @Override
        public Tensor newTensor(DType dtype, int rows, int cols) {
            if (!isOpen()) {
                throw new IllegalStateException(
                        deviceName() + ": cannot allocate [" + rows + ", " + cols + "], the scope is closed");
            }
            if (rows < 0 || cols < 0) {
                throw new IllegalArgumentException(
                        "a tensor needs rows >= 0 and cols >= 0, got [" + rows + ", " + cols + "]");
            }
            long numel = (long) rows * cols;
            if (numel > (Long.MAX_VALUE >> 8)) {
                throw new OutOfDeviceMemoryException(deviceName(), Long.MAX_VALUE, bytesHeld());
            }
            // at least one line, so that empty tensors have an address of their own too
            long size = Math.max(ALIGNMENT, (numel * dtype.bytes() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
            long address = allocate(size);
            bytes += size;
            if (poison) {
                HostMemory.ALL.asSlice(address, size).fill((byte) 0xFF);
            }
            return new Tensor(this, dtype, rows, cols, cols, address);
        }

        private long allocate(long size) {
            if (size > LARGE_TENSOR) {
                MemoryPool.Chunk own = pool.take(size);
                chunks.add(own);
                return own.address();
            }
            MemoryPool.Chunk chunk = current;
            if (chunk == null || chunk.bytes() - used < size) {
                chunk = pool.take(MemoryPool.SMALL_CHUNK);
                chunks.add(chunk);
                current = chunk;
                used = 0;
            }
            long address = chunk.address() + used;
            used += size;
            return address;
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
            return pool.deviceName();
        }

        @Override
        public boolean isOpen() {
            return open && pool.isOpen();
        }

        @Override
        public void close() {
            if (!isOpen()) {
                return;
            }
            open = false;
            openScopes--;
            for (MemoryPool.Chunk chunk : chunks) {
                pool.give(chunk);
            }
            chunks.clear();
            current = null;
        }

        @Override
        public String toString() {
            return "scope of %s, %,d bytes, %s".formatted(deviceName(), bytes, isOpen() ? "open" : "closed");
        }
    }
}
