package org.qlora4j.bindings;

import java.lang.foreign.MemorySegment;

/**
 * All of this process's memory as one segment, for kernels that work on raw addresses.
 *
 * <p>A loop over a segment that is a parameter ran three times slower than the same loop over one constant segment plus
 * an address (JDK 25, AVX2), so tensors carry addresses and are checked before the kernel, not in it. Whoever uses
 * {@link #ALL} must have proven address, size and lifetime: a wrong address ends the process.
 */
@SuppressWarnings("restricted")
public final class HostMemory {
    private HostMemory() {}

    /** Address 0 to {@code Long.MAX_VALUE}; offsets into it are absolute addresses. */
    public static final MemorySegment ALL = MemorySegment.NULL.reinterpret(Long.MAX_VALUE);
}
