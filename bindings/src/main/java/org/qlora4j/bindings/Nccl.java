package org.qlora4j.bindings;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.generated.nccl.nccl_h;

/**
 * NCCL: one rank's place in a group of GPUs that exchange fp32 numbers where they lie. Sizes, addresses, ranks and
 * types are proven before a call; that an address is this GPU's memory and lives is the caller's to prove. The device's
 * context must be current on the calling thread.
 */
@SuppressWarnings("restricted")
public final class Nccl implements AutoCloseable {
    /** Bytes of an id. */
    public static final int ID_BYTES = nccl_h.NCCL_UNIQUE_ID_BYTES();

    private static final String LIBRARY = "NCCL";

    private final MemorySegment communicator;
    private final int size;
    private boolean closed;

    private Nccl(MemorySegment communicator, int size) {
        this.communicator = communicator;
        this.size = size;
    }

    /**
     * Opens the library.
     *
     * @throws NativeException if it is not found; says what was tried
     */
    public static void require() {
        CudaNatives.requireNccl();
    }

    /** E.g. 23203 for 2.32.3. */
    public static int version() {
        require();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_INT);
            check("ncclGetVersion", nccl_h.ncclGetVersion(out));
            return out.get(JAVA_INT, 0);
        }
    }

    /** What the ranks of a new group find each other by; one rank makes it and gives it to the others. */
    public static byte[] newId() {
        require();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment id = arena.allocate(ID_BYTES);
            check("ncclGetUniqueId", nccl_h.ncclGetUniqueId(id));
            return id.toArray(JAVA_BYTE);
        }
    }

    /**
     * Joins a group with the current GPU; waits for the others. Each rank needs a GPU of its own.
     *
     * @param id of {@link #newId}
     */
    public static Nccl join(byte[] id, int rank, int size) {
        require();
        if (id.length != ID_BYTES) {
            throw new IllegalArgumentException("an id of NCCL has " + ID_BYTES + " bytes, got " + id.length);
        }
        if (size < 1 || rank < 0 || rank >= size) {
            throw new IllegalArgumentException("rank must be from 0 to " + (size - 1) + ", got " + rank);
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            check("ncclCommInitRank", nccl_h.ncclCommInitRank(out, size, arena.allocateFrom(JAVA_BYTE, id), rank));
            return new Nccl(out.get(ADDRESS, 0), size);
        }
    }

    /** Ranks of the group. */
    public int size() {
        return size;
    }

    /** Calls until {@link #endGroup} are one: they wait for each other's partners in any order. */
    public void startGroup() {
        requireOpen();
        check("ncclGroupStart", nccl_h.ncclGroupStart());
    }

    /** Gives the calls of the group to their streams. */
    public void endGroup() {
        requireOpen();
        check("ncclGroupEnd", nccl_h.ncclGroupEnd());
        checkOthers();
    }

    /** Sends fp32 numbers to a rank, which receives as many. @param peer may be this rank, within a group */
    public void send(long address, long count, int peer, long stream) {
        requireNumbers("send", address, count);
        requireRank(peer);
        check(
                "ncclSend",
                nccl_h.ncclSend(
                        MemorySegment.ofAddress(address),
                        count,
                        nccl_h.ncclFloat32(),
                        peer,
                        communicator,
                        MemorySegment.ofAddress(stream)));
    }

    /** Receives fp32 numbers from a rank. */
    public void receive(long address, long count, int peer, long stream) {
        requireNumbers("receive", address, count);
        requireRank(peer);
        check(
                "ncclRecv",
                nccl_h.ncclRecv(
                        MemorySegment.ofAddress(address),
                        count,
                        nccl_h.ncclFloat32(),
                        peer,
                        communicator,
                        MemorySegment.ofAddress(stream)));
    }

    /** Replaces fp32 numbers by their sums over all ranks, in NCCL's order. */
    public void sum(long address, long count, long stream) {
        requireNumbers("sum", address, count);
        MemorySegment numbers = MemorySegment.ofAddress(address);
        check(
                "ncclAllReduce",
                nccl_h.ncclAllReduce(
                        numbers,
                        numbers,
                        count,
                        nccl_h.ncclFloat32(),
                        nccl_h.ncclSum(),
                        communicator,
                        MemorySegment.ofAddress(stream)));
        checkOthers();
    }

    /** Leaves the group. Work that was given must be done. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            check("ncclCommDestroy", nccl_h.ncclCommDestroy(communicator));
        }
    }

    private void requireOpen() {
        if (closed) {
            throw new IllegalStateException("this rank has left NCCL's group");
        }
    }

    private void requireNumbers(String what, long address, long count) {
        requireOpen();
        if (address == 0 || address % Float.BYTES != 0) {
            throw new IllegalArgumentException(what + ": fp32 numbers need an address that is a multiple of 4, got 0x"
                    + Long.toHexString(address));
        }
        if (count < 1 || count > Long.MAX_VALUE / Float.BYTES) {
            throw new IllegalArgumentException(what + ": at least one number is needed, got " + count);
        }
    }

    private void requireRank(int peer) {
        if (peer < 0 || peer >= size) {
            throw new IllegalArgumentException("peer must be a rank from 0 to " + (size - 1) + ", got " + peer);
        }
    }

    /** What has gone wrong on NCCL's own threads. */
    private void checkOthers() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_INT);
            check("ncclCommGetAsyncError", nccl_h.ncclCommGetAsyncError(communicator, out));
            check("a call before ncclCommGetAsyncError", out.get(JAVA_INT, 0));
        }
    }

    private static void check(String function, int status) {
        if (status != nccl_h.ncclSuccess()) {
            String last = text(nccl_h.ncclGetLastError(MemorySegment.NULL));
            throw new NativeException(
                    LIBRARY,
                    function,
                    status,
                    text(nccl_h.ncclGetErrorString(status)) + (last.isEmpty() ? "" : ": " + last)
                            + "; each rank needs a GPU of its own, NCCL_DEBUG=INFO says more");
        }
    }

    private static String text(MemorySegment letters) {
        return letters.address() == 0 ? "" : letters.reinterpret(Long.MAX_VALUE).getString(0);
    }
}
