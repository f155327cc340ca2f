package org.qlora4j.nf4.device;

import java.lang.foreign.Arena;
import java.util.ArrayList;
import org.jspecify.annotations.Nullable;

/**
 * The native memory of one host device, in chunks: taken by scopes, given back by them, kept for the next one.
 *
 * <p>The smallest idle chunk that fits is reused, but only if at most a quarter of it stays unused. Otherwise a new one
 * is made, and before that idle chunks, the largest first, go back to the system while more than half of all memory is
 * idle, up to as many bytes as are wanted.
 */
final class HostPool implements AutoCloseable {
    /** 4 MiB, the size scopes ask for to place small tensors in: norms, row statistics, LoRA's rank-r activations. */
    static final long SMALL_CHUNK = 4L << 20;

    private static final long PAGE = 4096;

    /**
     * @param bytes size of the segment at {@code address} that lives as long as {@code arena}; no arena in a dry pool
     */
    record Chunk(@Nullable Arena arena, long address, long bytes) {
        void free() {
            if (arena != null) {
                arena.close();
            }
        }
    }

    private final String deviceName;
    private final long limitBytes;
    private final boolean dry;
    /** Chunks no scope uses, ascending by size. */
    private final ArrayList<Chunk> idle = new ArrayList<>();

    private final ArrayList<Chunk> all = new ArrayList<>();
    private long held;
    private long idleBytes;
    private long peak;
    private long systemAllocations;
    private long dryAddress = PAGE;
    private boolean open = true;

    /** @param dry whether chunks are counted only: there is no memory at their addresses */
    HostPool(String deviceName, long limitBytes, boolean dry) {
        this.deviceName = deviceName;
        this.limitBytes = limitBytes;
        this.dry = dry;
    }

    /**
     * A chunk of at least {@code bytes} bytes, its start 64 bytes aligned, its content undefined.
     *
     * @throws OutOfDeviceMemoryException if the limit or the system does not allow it
     */
    Chunk take(long bytes) {
        if (bytes > limitBytes) {
            throw new OutOfDeviceMemoryException(deviceName, bytes, held - idleBytes);
        }
        long wanted = (bytes + PAGE - 1) / PAGE * PAGE;
        int fit = firstAtLeast(wanted);
        if (fit < idle.size() && idle.get(fit).bytes - wanted <= idle.get(fit).bytes / 4) {
            Chunk chunk = idle.remove(fit);
            idleBytes -= chunk.bytes;
            return chunk;
        }
        long freed = 0;
        while (!idle.isEmpty() && (idleBytes > held / 2 && freed < wanted || held + wanted > limitBytes)) {
            freed += freeLargestIdle();
        }
        if (held + wanted > limitBytes) {
            throw new OutOfDeviceMemoryException(deviceName, bytes, held);
        }
        return allocate(wanted);
    }

    /** Gives a chunk back for reuse. */
    void give(Chunk chunk) {
        idle.add(firstAtLeast(chunk.bytes), chunk);
        idleBytes += chunk.bytes;
    }

    private Chunk allocate(long bytes) {
        Chunk chunk;
        try {
            chunk = dry ? withoutMemory(bytes) : fromSystem(bytes);
        } catch (OutOfMemoryError full) {
            while (!idle.isEmpty()) {
                freeLargestIdle();
            }
            try {
                chunk = fromSystem(bytes);
            } catch (OutOfMemoryError stillFull) {
                OutOfDeviceMemoryException e = new OutOfDeviceMemoryException(deviceName, bytes, held);
                e.initCause(stillFull);
                throw e;
            }
        }
        all.add(chunk);
        systemAllocations++;
        held += bytes;
        peak = Math.max(peak, held);
        return chunk;
    }

    private Chunk withoutMemory(long bytes) {
        Chunk chunk = new Chunk(null, dryAddress, bytes);
        dryAddress += bytes;
        return chunk;
    }

    @SuppressWarnings("MustBeClosedChecker") // the chunk owns the arena
    private static Chunk fromSystem(long bytes) {
        // shared: worker threads of the device touch it; the JDK zeroes it once
        Arena arena = Arena.ofShared();
        try {
            return new Chunk(arena, arena.allocate(bytes, 64).address(), bytes);
        } catch (Throwable t) {
            arena.close();
            throw t;
        }
    }

    private long freeLargestIdle() {
        Chunk chunk = idle.remove(idle.size() - 1);
        // by identity: records compare by content
        for (int i = 0; i < all.size(); i++) {
            if (all.get(i) == chunk) {
                all.set(i, all.get(all.size() - 1));
                all.remove(all.size() - 1);
                break;
            }
        }
        chunk.free();
        idleBytes -= chunk.bytes;
        held -= chunk.bytes;
        return chunk.bytes;
    }

    /** Index of the smallest idle chunk with at least {@code bytes} bytes, or the count of idle chunks. */
    private int firstAtLeast(long bytes) {
        int low = 0;
        int high = idle.size();
        while (low < high) {
            int mid = (low + high) >>> 1;
            if (idle.get(mid).bytes < bytes) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        return low;
    }

    String deviceName() {
        return deviceName;
    }

    boolean isOpen() {
        return open;
    }

    long held() {
        return held;
    }

    long idleBytes() {
        return idleBytes;
    }

    long peak() {
        return peak;
    }

    long systemAllocations() {
        return systemAllocations;
    }

    /** Frees every chunk, used or not. */
    @Override
    public void close() {
        open = false;
        for (Chunk chunk : all) {
            chunk.free();
        }
        all.clear();
        idle.clear();
        held = 0;
        idleBytes = 0;
    }
}
