package org.qlora4j.bindings;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.generated.mpi.mpi_h;
import org.qlora4j.bindings.symbols.LibrarySymbols;

/**
 * Open MPI, 4.1 or newer. Every call but start and end returns at once and is finished by {@link #test}, so that no
 * thread is ever stuck in it. Buffers are native and stay as they are until then. A failing call throws; Open MPI's own
 * habit of ending the process is switched off.
 *
 * <p>A process starts MPI once and ends it once. All ranks must make the same calls in the same order on a
 * {@link Group}; different groups may be used by different threads at the same time.
 */
@SuppressWarnings("restricted")
public final class Mpi {
    private static final String LIBRARY = "Open MPI";
    /** Of Open MPI 4 and 5. */
    private static final String FILE = "libmpi.so.40";
    /** What a launcher that speaks MPI sets for each process: Open MPI's mpirun, and Slurm's srun with PMIx. */
    private static final List<String> LAUNCHED = List.of("OMPI_COMM_WORLD_SIZE", "PMIX_RANK");

    private static @Nullable Mpi started;

    private final int rank;
    private final int size;
    private final int localRank;
    private final int localSize;

    private Mpi(int rank, int size, int localRank, int localSize) {
        this.rank = rank;
        this.size = size;
        this.localRank = localRank;
        this.localSize = localSize;
    }

    /** All ranks, with a space of messages of its own. */
    public static final class Group {
        private final MemorySegment communicator;

        private Group(MemorySegment communicator) {
            this.communicator = communicator;
        }
    }

    /** A call in progress; may be used again when it is finished. */
    public static final class Request {
        private final MemorySegment handle;
        private final MemorySegment flag;

        /** @param arena lives until the last call that uses this is finished */
        public Request(Arena arena) {
            handle = arena.allocate(ADDRESS);
            flag = arena.allocate(JAVA_INT);
        }
    }

    /** Whether an MPI launcher started this process. */
    public static boolean isLaunched() {
        return LAUNCHED.stream().anyMatch(name -> System.getenv(name) != null);
    }

    /** Processes of the job on this machine; 1 where MPI was not started. */
    public static synchronized int ranksOfThisMachine() {
        return started == null ? 1 : started.localSize;
    }

    /**
     * Starts MPI in this process, or gives what was started before.
     *
     * @throws NativeException if the library is not there or has no support for threads
     */
    public static synchronized Mpi start() {
        if (started == null) {
            DynamicLoader.requirePlatform(System.getProperty("os.name"), System.getProperty("os.arch"));
            try {
                LibrarySymbols.of(FILE).opened(FILE, DynamicLoader.open(FILE));
            } catch (UnsatisfiedLinkError e) {
                throw new NativeException(
                        LIBRARY,
                        "cannot open " + FILE + ": " + e.getMessage()
                                + "; install it on every machine of the job (apt-get install openmpi-bin)");
            }
            started = init();
        }
        return started;
    }

    private static Mpi init() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_INT);
            check("MPI_Initialized", mpi_h.MPI_Initialized(out));
            if (out.get(JAVA_INT, 0) != 0) {
                throw new NativeException(LIBRARY, "something else in this process has started it already");
            }
            check(
                    "MPI_Init_thread",
                    mpi_h.MPI_Init_thread(MemorySegment.NULL, MemorySegment.NULL, mpi_h.MPI_THREAD_MULTIPLE(), out));
            if (out.get(JAVA_INT, 0) < mpi_h.MPI_THREAD_MULTIPLE()) {
                throw new NativeException(
                        LIBRARY,
                        "this build has no MPI_THREAD_MULTIPLE (it gives thread level " + out.get(JAVA_INT, 0)
                                + "), which watching over the other ranks needs");
            }
            MemorySegment world = mpi_h.ompi_mpi_comm_world();
            returnErrors(world);
            MemorySegment local = arena.allocate(ADDRESS);
            check(
                    "MPI_Comm_split_type",
                    mpi_h.MPI_Comm_split_type(
                            world, mpi_h.MPI_COMM_TYPE_SHARED(), 0, mpi_h.ompi_mpi_info_null(), local));
            Mpi mpi = new Mpi(rank(world, out), size(world, out), rank(local(local), out), size(local(local), out));
            check("MPI_Comm_free", mpi_h.MPI_Comm_free(local));
            return mpi;
        }
    }

    private static MemorySegment local(MemorySegment pointer) {
        return pointer.get(ADDRESS, 0);
    }

    private static int rank(MemorySegment communicator, MemorySegment out) {
        check("MPI_Comm_rank", mpi_h.MPI_Comm_rank(communicator, out));
        return out.get(JAVA_INT, 0);
    }

    private static int size(MemorySegment communicator, MemorySegment out) {
        check("MPI_Comm_size", mpi_h.MPI_Comm_size(communicator, out));
        return out.get(JAVA_INT, 0);
    }

    private static void returnErrors(MemorySegment communicator) {
        check("MPI_Comm_set_errhandler", mpi_h.MPI_Comm_set_errhandler(communicator, mpi_h.ompi_mpi_errors_return()));
    }

    /** This process's number, from 0. */
    public int rank() {
        return rank;
    }

    /** Processes of the job. */
    public int size() {
        return size;
    }

    /** This process's number among those on its machine, from 0. */
    public int localRank() {
        return localRank;
    }

    /** Processes of the job on this machine. */
    public int localSize() {
        return localSize;
    }

    /** One line, e.g. {@code Open MPI v4.1.4, …}. */
    public String version() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocate(mpi_h.MPI_MAX_LIBRARY_VERSION_STRING());
            check("MPI_Get_library_version", mpi_h.MPI_Get_library_version(text, arena.allocate(JAVA_INT)));
            return text.getString(0);
        }
    }

    /** All ranks make a group together; waits for them. */
    public Group newGroup() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            check("MPI_Comm_dup", mpi_h.MPI_Comm_dup(mpi_h.ompi_mpi_comm_world(), out));
            returnErrors(local(out));
            return new Group(local(out));
        }
    }

    /** Starts to copy rank {@code root}'s buffer to all ranks' buffers of the same size. */
    public void broadcast(Group group, MemorySegment buffer, int root, Request request) {
        requireRank("root", root);
        check(
                "MPI_Ibcast",
                mpi_h.MPI_Ibcast(
                        requireNative(buffer),
                        Math.toIntExact(buffer.byteSize()),
                        mpi_h.ompi_mpi_byte(),
                        root,
                        group.communicator,
                        request.handle));
    }

    /** Starts to collect all ranks' buffers, of one size, behind each other in {@code all}. */
    public void allGather(Group group, MemorySegment mine, MemorySegment all, Request request) {
        requireSize("all", all, Math.multiplyExact(mine.byteSize(), size));
        int bytes = Math.toIntExact(mine.byteSize());
        MemorySegment type = mpi_h.ompi_mpi_byte();
        check(
                "MPI_Iallgather",
                mpi_h.MPI_Iallgather(
                        requireNative(mine), bytes, type, all, bytes, type, group.communicator, request.handle));
    }

    /**
     * As {@link #allGather}, of different sizes, in 4-byte words.
     *
     * @param counts [size] int, words of each rank @param offsets [size] int, where they go in {@code all}
     */
    public void allGatherWords(
            Group group,
            MemorySegment mine,
            MemorySegment all,
            MemorySegment counts,
            MemorySegment offsets,
            Request request) {
        requireSpans("all", all, counts, offsets);
        requireSize("mine", mine, 4L * counts.getAtIndex(JAVA_INT, rank));
        MemorySegment type = mpi_h.ompi_mpi_float();
        check(
                "MPI_Iallgatherv",
                mpi_h.MPI_Iallgatherv(
                        mine,
                        counts.getAtIndex(JAVA_INT, rank),
                        type,
                        all,
                        counts,
                        offsets,
                        type,
                        group.communicator,
                        request.handle));
    }

    /**
     * Starts to give each rank its part of {@code send} and to collect all ranks' parts for this one, in 4-byte words.
     *
     * @param counts [size] int, words for each rank, and offsets of them in {@code send}; then the same of
     *     {@code receive}
     */
    public void allToAllWords(
            Group group,
            MemorySegment send,
            MemorySegment counts,
            MemorySegment offsets,
            MemorySegment receive,
            MemorySegment receiveCounts,
            MemorySegment receiveOffsets,
            Request request) {
        requireSpans("send", send, counts, offsets);
        requireSpans("receive", receive, receiveCounts, receiveOffsets);
        MemorySegment type = mpi_h.ompi_mpi_float();
        check(
                "MPI_Ialltoallv",
                mpi_h.MPI_Ialltoallv(
                        send,
                        counts,
                        offsets,
                        type,
                        receive,
                        receiveCounts,
                        receiveOffsets,
                        type,
                        group.communicator,
                        request.handle));
    }

    /** Starts to sum all ranks' buffers into each of them, in MPI's order. @param bytes of a number: 4 or 8 */
    public void allReduceSum(Group group, MemorySegment buffer, int bytes, Request request) {
        if (bytes != 4 && bytes != 8) {
            throw new IllegalArgumentException("numbers have 4 or 8 bytes, got " + bytes);
        }
        check(
                "MPI_Iallreduce",
                mpi_h.MPI_Iallreduce(
                        mpi_h.MPI_IN_PLACE(),
                        requireNative(buffer),
                        Math.toIntExact(buffer.byteSize() / bytes),
                        bytes == 4 ? mpi_h.ompi_mpi_float() : mpi_h.ompi_mpi_double(),
                        mpi_h.ompi_mpi_op_sum(),
                        group.communicator,
                        request.handle));
    }

    /** Starts to send a buffer to a rank. */
    public void send(Group group, MemorySegment buffer, int destination, Request request) {
        requireRank("destination", destination);
        check(
                "MPI_Isend",
                mpi_h.MPI_Isend(
                        requireNative(buffer),
                        Math.toIntExact(buffer.byteSize()),
                        mpi_h.ompi_mpi_byte(),
                        destination,
                        0,
                        group.communicator,
                        request.handle));
    }

    /** Starts to receive a buffer from a rank. */
    public void receive(Group group, MemorySegment buffer, int source, Request request) {
        requireRank("source", source);
        check(
                "MPI_Irecv",
                mpi_h.MPI_Irecv(
                        requireNative(buffer),
                        Math.toIntExact(buffer.byteSize()),
                        mpi_h.ompi_mpi_byte(),
                        source,
                        0,
                        group.communicator,
                        request.handle));
    }

    /** Whether a call is finished; drives all calls of this process forward. */
    public boolean test(Request request) {
        check("MPI_Test", mpi_h.MPI_Test(request.handle, request.flag, mpi_h.MPI_STATUS_IGNORE()));
        return request.flag.get(JAVA_INT, 0) != 0;
    }

    /** Ends all processes of the job, this one too. @param code their exit status */
    public void abort(int code) {
        check("MPI_Abort", mpi_h.MPI_Abort(mpi_h.ompi_mpi_comm_world(), code));
    }

    /** Ends MPI; waits for the other ranks to do so. No call may be in progress, and none may follow. */
    public void end() {
        check("MPI_Finalize", mpi_h.MPI_Finalize());
    }

    private void requireRank(String what, int number) {
        if (number < 0 || number >= size) {
            throw new IllegalArgumentException(what + " must be a rank from 0 to " + (size - 1) + ", got " + number);
        }
    }

    private static MemorySegment requireNative(MemorySegment buffer) {
        if (!buffer.isNative() || !buffer.scope().isAlive()) {
            throw new IllegalArgumentException("MPI needs a buffer in native memory that is not freed, got " + buffer);
        }
        return buffer;
    }

    private static void requireSize(String what, MemorySegment buffer, long bytes) {
        if (requireNative(buffer).byteSize() < bytes) {
            throw new IllegalArgumentException(
                    what + " must have " + bytes + " bytes at least, got " + buffer.byteSize());
        }
    }

    /** Every span of words lies in the buffer. */
    private void requireSpans(String what, MemorySegment buffer, MemorySegment counts, MemorySegment offsets) {
        requireSize("counts of " + what, counts, 4L * size);
        requireSize("offsets of " + what, offsets, 4L * size);
        for (int r = 0; r < size; r++) {
            int count = counts.getAtIndex(JAVA_INT, r);
            int offset = offsets.getAtIndex(JAVA_INT, r);
            if (count < 0 || offset < 0) {
                throw new IllegalArgumentException(
                        "words of rank " + r + " in " + what + ": " + count + " from " + offset);
            }
            requireSize(what, buffer, 4L * count + 4L * offset);
        }
    }

    private static void check(String function, int status) {
        if (status != mpi_h.MPI_SUCCESS()) {
            throw new NativeException(LIBRARY, function, status, text(status));
        }
    }

    private static String text(int status) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocate(JAVA_BYTE, mpi_h.MPI_MAX_ERROR_STRING());
            int failed = mpi_h.MPI_Error_string(status, text, arena.allocate(JAVA_INT));
            return failed == 0 ? text.getString(0) : "no text for it";
        }
    }
}
