package org.qlora4j.nf4.parallel;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import org.qlora4j.bindings.Mpi;

/**
 * A thread by which ranks know that the others live: each tells the next one in a ring, and listens to the one before.
 * It sees a process that is stopped, or a machine or a link that is down; mpirun itself sees a process that ends. It
 * does not mistake a long computation for silence, as it has a thread of its own.
 */
final class Heartbeat implements AutoCloseable {
    private static final byte ALIVE = 1;
    private static final byte GOODBYE = 2;
    /** Signs of life within the timeout: a few may be late. */
    private static final int BEATS = 10;

    private final Mpi mpi;
    private final List<String> names;
    private final long timeoutNanos;
    private final Consumer<String> lost;
    private final int before;
    private final Mpi.Group group;
    private final Thread thread;
    private volatile boolean ending;

    /** @param names of the ranks @param lost is told which rank is silent, on the heartbeat's thread */
    Heartbeat(Mpi mpi, List<String> names, double timeoutSeconds, Consumer<String> lost) {
        if (!(timeoutSeconds > 0 && timeoutSeconds < 1e6)) {
            throw new IllegalArgumentException("a rank's timeout must be positive seconds, got " + timeoutSeconds);
        }
        this.mpi = mpi;
        this.names = names;
        this.timeoutNanos = (long) (timeoutSeconds * 1e9);
        this.lost = lost;
        this.before = (mpi.rank() + mpi.size() - 1) % mpi.size();
        this.group = mpi.newGroup();
        thread = new Thread(this::beat, "heartbeat");
        thread.setDaemon(true);
        if (mpi.size() > 1) {
            thread.start();
        }
    }

    private void beat() {
        // confined memory would be freed under a message in flight when this thread dies; this is a few bytes
        Arena arena = Arena.global();
        MemorySegment out = arena.allocate(1);
        MemorySegment in = arena.allocate(1);
        Mpi.Request sending = new Mpi.Request(arena);
        Mpi.Request receiving = new Mpi.Request(arena);
        int next = (mpi.rank() + 1) % mpi.size();
        mpi.receive(group, in, before, receiving);
        boolean sent = true;
        boolean saidGoodbye = false;
        boolean heardGoodbye = false;
        long heard = System.nanoTime();
        long awake = heard;
        long lastBeat = heard - timeoutNanos;
        while (!(sent && saidGoodbye && heardGoodbye)) {
            long now = System.nanoTime();
            if (now - awake > timeoutNanos / 2) {
                // it was this process that was stopped: nobody else is to blame for the silence
                heard = now;
            }
            awake = now;
            sent = sent || mpi.test(sending);
            if (sent && !saidGoodbye && (ending || now - lastBeat >= timeoutNanos / BEATS)) {
                saidGoodbye = ending;
                out.set(JAVA_BYTE, 0, saidGoodbye ? GOODBYE : ALIVE);
                mpi.send(group, out, next, sending);
                sent = false;
                lastBeat = now;
            }
            while (!heardGoodbye && mpi.test(receiving)) {
                heard = now;
                heardGoodbye = in.get(JAVA_BYTE, 0) == GOODBYE;
                if (!heardGoodbye) {
                    mpi.receive(group, in, before, receiving);
                }
            }
            if (!heardGoodbye && now - heard > timeoutNanos) {
                lost.accept(String.format(
                        Locale.ROOT,
                        "rank %d of %d (%s) has given no sign of life for %.0f s: it hangs, or its machine or network"
                                + " is down",
                        before,
                        mpi.size(),
                        names.get(before),
                        timeoutNanos / 1e9));
                return;
            }
            LockSupport.parkNanos(Math.min(timeoutNanos / BEATS / 4, ending ? 1_000_000 : 250_000_000));
        }
    }

    /** Says goodbye, and waits for the other's, so that no message is left when MPI ends. */
    @Override
    public void close() {
        ending = true;
        LockSupport.unpark(thread);
        boolean interrupted = false;
        while (thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
