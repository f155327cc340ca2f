package org.qlora4j.nf4.device;

import java.util.ArrayList;
import org.jspecify.annotations.Nullable;

/**
 * The memory of one device, in chunks: taken by scopes, given back by them, kept for the next one.
 *
 * <p>The smallest idle chunk that fits is reused; what is left of it stays idle, and idle neighbours become one again.
 * So passes of all lengths find room in what the longest one took. Memory comes from the system in regions. Before a
 * new one is made, regions nobody uses go back, the largest first, as long as more would be held than was ever in use,
 * and an eighth.
 */
final class MemoryPool implements AutoCloseable {
    /** 4 MiB, the size scopes ask for to place small tensors in: norms, row statistics, LoRA's rank-r activations. */
    static final long SMALL_CHUNK = 4L << 20;

    private static final long PAGE = 4096;

    /** What is left of a chunk below this stays with it. */
    private static final long LEAST_REST = 64 << 10;

    /** A part of a region, or all of it. */
    static final class Chunk {
        private final MemorySource.Region region;

        private final long address;
        private long bytes;
        /** Neighbours in the region. */
        private @Nullable Chunk before;

        private @Nullable Chunk after;
        private boolean idle;

        private Chunk(MemorySource.Region region, long address, long bytes) {
            this.region = region;
            this.address = address;
            this.bytes = bytes;
        }

        long address() {
            return address;
        }

        long bytes() {
            return bytes;
        }

        private boolean isRegion() {
            return before == null && after == null;
        }

        private void free() {
            region.close();
        }
    }

    private final String deviceName;
    private final long limitBytes;
    private final MemorySource source;
    /** Chunks no scope uses, ascending by size. */
    private final ArrayList<Chunk> idle = new ArrayList<>();

    /** The first chunk of each region. */
    private final ArrayList<Chunk> regions = new ArrayList<>();

    private long held;
    private long idleBytes;
    private long peak;
    private long peakInUse;
    private long systemAllocations;
    private boolean open = true;

    MemoryPool(String deviceName, long limitBytes, MemorySource source) {
        this.deviceName = deviceName;
        this.limitBytes = limitBytes;
        this.source = source;
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
        Chunk chunk;
        if (fit < idle.size()) {
            chunk = idle.get(fit);
            takeFromIdle(fit);
            split(chunk, wanted);
        } else {
            makeRoom(wanted);
            if (held + wanted > limitBytes) {
                throw new OutOfDeviceMemoryException(deviceName, bytes, held - idleBytes);
            }
            chunk = allocate(wanted);
        }
        peakInUse = Math.max(peakInUse, held - idleBytes);
        return chunk;
    }

    /** The rest becomes an idle chunk behind this one. */
    private void split(Chunk chunk, long wanted) {
        long left = chunk.bytes - wanted;
        if (left < LEAST_REST) {
            return;
        }
        Chunk rest = new Chunk(chunk.region, chunk.address + wanted, left);
        chunk.bytes = wanted;
        rest.before = chunk;
        rest.after = chunk.after;
        if (rest.after != null) {
            rest.after.before = rest;
        }
        chunk.after = rest;
        addToIdle(rest);
    }

    /** Gives a chunk back for reuse. */
    void give(Chunk chunk) {
        Chunk whole = chunk;
        Chunk before = chunk.before;
        if (before != null && before.idle) {
            takeFromIdle(idle.indexOf(before));
            join(before, chunk);
            whole = before;
        }
        Chunk after = whole.after;
        if (after != null && after.idle) {
            takeFromIdle(idle.indexOf(after));
            join(whole, after);
        }
        addToIdle(whole);
    }

    private static void join(Chunk first, Chunk second) {
        first.bytes += second.bytes;
        first.after = second.after;
        if (first.after != null) {
            first.after.before = first;
        }
    }

    private void addToIdle(Chunk chunk) {
        chunk.idle = true;
        idle.add(firstAtLeast(chunk.bytes), chunk);
        idleBytes += chunk.bytes;
    }

    private void takeFromIdle(int index) {
        Chunk chunk = idle.remove(index);
        chunk.idle = false;
        idleBytes -= chunk.bytes;
    }

    /** Gives unused regions back, so that no more is held than a step needs. */
    private void makeRoom(long wanted) {
        long inUse = Math.max(peakInUse, held - idleBytes + wanted);
        long most = Math.min(limitBytes, inUse + inUse / 8);
        for (int i = idle.size() - 1; i >= 0 && held + wanted > most; i--) {
            if (idle.get(i).isRegion()) {
                freeIdle(i);
            }
        }
    }

    private Chunk allocate(long bytes) {
        Chunk chunk;
        try {
            chunk = fromSource(bytes);
        } catch (OutOfMemoryError full) {
            for (int i = idle.size() - 1; i >= 0; i--) {
                if (idle.get(i).isRegion()) {
                    freeIdle(i);
                }
            }
            try {
                chunk = fromSource(bytes);
            } catch (OutOfMemoryError stillFull) {
                OutOfDeviceMemoryException e = new OutOfDeviceMemoryException(deviceName, bytes, held - idleBytes);
                e.initCause(stillFull);
                throw e;
            }
        }
        regions.add(chunk);
        systemAllocations++;
        held += bytes;
        peak = Math.max(peak, held);
        return chunk;
    }

    private Chunk fromSource(long bytes) {
        MemorySource.Region region = source.allocate(bytes);
        return new Chunk(region, region.address(), bytes);
    }

    private void freeIdle(int index) {
        Chunk region = idle.get(index);
        takeFromIdle(index);
        regions.remove(region);
        region.free();
        held -= region.bytes;
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
        regions.forEach(Chunk::free);
        regions.clear();
        idle.clear();
        held = 0;
        idleBytes = 0;
    }
}
