package org.qlora4j.nf4.device;

import java.lang.foreign.Arena;

/** Where a device's memory comes from, in regions of a megabyte and more. */
public interface MemorySource {
    /** A piece of memory; closing it gives it back. */
    interface Region extends AutoCloseable {
        /** Of its first byte, at least 64 bytes aligned. */
        long address();

        @Override
        void close();
    }

    /**
     * A new region, its content undefined.
     *
     * @throws OutOfMemoryError if there is no room
     */
    Region allocate(long bytes);

    /** The process's own memory. */
    static MemorySource host() {
        return MemorySource::fromSystem;
    }

    @SuppressWarnings("MustBeClosedChecker") // the region owns the arena
    private static Region fromSystem(long bytes) {
        // shared: worker threads of the device touch it; the JDK zeroes it once
        Arena arena = Arena.ofShared();
        try {
            long address = arena.allocate(bytes, 64).address();
            return region(address, arena::close);
        } catch (Throwable t) {
            arena.close();
            throw t;
        }
    }

    /** Nowhere: addresses without memory, to count what would be held. */
    static MemorySource dry() {
        long[] next = {4096};
        return bytes -> {
            long address = next[0];
            next[0] += bytes;
            return region(address, () -> {});
        };
    }

    /** A region of two parts. */
    static Region region(long address, Runnable free) {
        return new Region() {
            @Override
            public long address() {
                return address;
            }

            @Override
            public void close() {
                free.run();
            }
        };
    }
}
