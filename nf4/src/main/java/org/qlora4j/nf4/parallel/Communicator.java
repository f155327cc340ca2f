package org.qlora4j.nf4.parallel;

import java.lang.foreign.MemorySegment;
import java.util.function.Consumer;

/**
 * The processes of a training run (its ranks) and how they exchange data. Every call but the numbers is made by all
 * ranks together, in the same order, on one thread; it returns when this rank's part is there. Words are 4 bytes.
 */
public interface Communicator extends AutoCloseable {
    /** A run of one process. */
    Communicator SINGLE = new SingleProcess();

    /** How sums over ranks are made. */
    enum Reduction {
        /** By a fixed tree over the passes of a step: the same bits on any number of ranks. */
        TREE,
        /** One sum a rank, then MPI's own order: less memory, other bits on another number of ranks. */
        FAST
    }

    /**
     * All ranks of the MPI job that started this process, watched over by heartbeats.
     *
     * @param timeoutSeconds without a sign of life after which a rank is lost
     * @param lost is told, on another thread, which rank; is to end this process, e.g. with {@link #abort}
     * @throws org.qlora4j.bindings.NativeException if MPI is not there
     */
    static Communicator mpi(double timeoutSeconds, Consumer<String> lost) {
        return new MpiCommunicator(timeoutSeconds, lost);
    }

    /** This process's number, from 0. */
    int rank();

    /** Processes of the run. */
    int size();

    /** This process's number among those on its machine, from 0. */
    int localRank();

    /** Whether this is rank 0, which logs and saves. */
    default boolean isRoot() {
        return rank() == 0;
    }

    /** Rank 0's bytes, on every rank. @param bytes of the other ranks do not matter */
    byte[] broadcast(byte[] bytes);

    /** Every rank's bytes, of any lengths, by rank. */
    byte[][] allGather(byte[] bytes);

    /**
     * Gives rank r {@code sendWords[r]} words of {@code send}, where these lie in the order of ranks, and fills
     * {@code receive} with {@code receiveWords[r]} words from each rank r. Native memory.
     */
    void exchange(MemorySegment send, int[] sendWords, MemorySegment receive, int[] receiveWords);

    /**
     * Fills {@code all} with {@code words[r]} words from each rank r, this rank's being {@code mine}. Native memory.
     */
    void collect(MemorySegment mine, MemorySegment all, int[] words);

    /** Replaces the numbers by their sums over all ranks, in any order. Native memory. @param bytes of a number */
    void sum(MemorySegment numbers, int bytes);

    /** Ends all ranks, this one too, at once. @param status of the processes */
    void abort(int status);

    /** Ends the run's communication; all ranks do. */
    @Override
    void close();
}
