package org.qlora4j.nf4.parallel;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import org.qlora4j.bindings.Mpi;

/** The ranks of an MPI job. Waits by asking again and again, first at once, then with pauses that leave the core. */
final class MpiCommunicator implements Communicator {
    private static final int SPINS = 200;
    private static final long PAUSE_NANOS = 50_000;

    private final Mpi mpi;
    private final Arena arena = Arena.ofShared();
    private final Mpi.Group group;
    private final Mpi.Request request;
    private final MemorySegment counts;
    private final MemorySegment offsets;
    private final MemorySegment receiveCounts;
    private final MemorySegment receiveOffsets;
    private final Heartbeat heartbeat;
    private boolean closed;

    MpiCommunicator(double timeoutSeconds, Consumer<String> lost) {
        mpi = Mpi.start();
        group = mpi.newGroup();
        request = new Mpi.Request(arena);
        counts = arena.allocate(JAVA_INT, mpi.size());
        offsets = arena.allocate(JAVA_INT, mpi.size());
        receiveCounts = arena.allocate(JAVA_INT, mpi.size());
        receiveOffsets = arena.allocate(JAVA_INT, mpi.size());
        List<String> names = Arrays.stream(allGather(name().getBytes(StandardCharsets.UTF_8)))
                .map(bytes -> new String(bytes, StandardCharsets.UTF_8))
                .toList();
        heartbeat = new Heartbeat(mpi, names, timeoutSeconds, lost);
    }

    /** For people who look for it. */
    private static String name() {
        String host;
        try {
            // not by the resolver: a machine's own name need not be known to it
            host = Files.readString(Path.of("/proc/sys/kernel/hostname")).strip();
        } catch (IOException e) {
            host = "a machine without a name";
        }
        return "process " + ProcessHandle.current().pid() + " on " + host;
    }

    @Override
    public int rank() {
        return mpi.rank();
    }

    @Override
    public int size() {
        return mpi.size();
    }

    @Override
    public int localRank() {
        return mpi.localRank();
    }

    @Override
    public byte[] broadcast(byte[] bytes) {
        try (Arena buffers = Arena.ofShared()) {
            MemorySegment length = buffers.allocate(JAVA_INT);
            length.set(JAVA_INT, 0, bytes.length);
            mpi.broadcast(group, length, 0, request);
            await();
            MemorySegment buffer = buffers.allocate(Math.max(1, length.get(JAVA_INT, 0)));
            if (isRoot()) {
                MemorySegment.copy(bytes, 0, buffer, JAVA_BYTE, 0, bytes.length);
            }
            mpi.broadcast(group, buffer, 0, request);
            await();
            return buffer.asSlice(0, length.get(JAVA_INT, 0)).toArray(JAVA_BYTE);
        }
    }

    @Override
    public byte[][] allGather(byte[] bytes) {
        try (Arena buffers = Arena.ofShared()) {
            MemorySegment length = buffers.allocate(JAVA_INT);
            length.set(JAVA_INT, 0, bytes.length);
            MemorySegment lengths = buffers.allocate(JAVA_INT, size());
            mpi.allGather(group, length, lengths, request);
            await();
            int[] words = new int[size()];
            for (int r = 0; r < size(); r++) {
                words[r] = (lengths.getAtIndex(JAVA_INT, r) + 3) / 4;
            }
            MemorySegment mine = buffers.allocate(4L * words[rank()], 4);
            MemorySegment.copy(bytes, 0, mine, JAVA_BYTE, 0, bytes.length);
            MemorySegment all =
                    buffers.allocate(4 * Arrays.stream(words).asLongStream().sum(), 4);
            collect(mine, all, words);
            byte[][] gathered = new byte[size()][];
            long at = 0;
            for (int r = 0; r < size(); r++) {
                gathered[r] = all.asSlice(at, lengths.getAtIndex(JAVA_INT, r)).toArray(JAVA_BYTE);
                at += 4L * words[r];
            }
            return gathered;
        }
    }

    @Override
    public void exchange(MemorySegment send, int[] sendWords, MemorySegment receive, int[] receiveWords) {
        spans(sendWords, counts, offsets);
        spans(receiveWords, receiveCounts, receiveOffsets);
        mpi.allToAllWords(group, send, counts, offsets, receive, receiveCounts, receiveOffsets, request);
        await();
    }

    @Override
    public void collect(MemorySegment mine, MemorySegment all, int[] words) {
        spans(words, counts, offsets);
        mpi.allGatherWords(group, mine, all, counts, offsets, request);
        await();
    }

    private static void spans(int[] words, MemorySegment counts, MemorySegment offsets) {
        int at = 0;
        for (int r = 0; r < words.length; r++) {
            counts.setAtIndex(JAVA_INT, r, words[r]);
            offsets.setAtIndex(JAVA_INT, r, at);
            at = Math.addExact(at, words[r]);
        }
    }

    @Override
    public void sum(MemorySegment numbers, int bytes) {
        mpi.allReduceSum(group, numbers, bytes, request);
        await();
    }

    /** A rank that does not come is the heartbeat's business, which ends the process. */
    private void await() {
        for (int tries = 0; !mpi.test(request); tries++) {
            if (tries < SPINS) {
                Thread.onSpinWait();
            } else {
                LockSupport.parkNanos(PAUSE_NANOS);
            }
        }
    }

    @Override
    public void abort(int status) {
        mpi.abort(status);
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            heartbeat.close();
            mpi.end();
            arena.close();
        }
    }
}
