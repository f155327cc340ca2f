package org.qlora4j.nf4.device.cpu;

import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.OneDnn;

/**
 * The threads of one CPU device: the caller and {@code threads − 1} daemon threads that run the same task, each on its
 * share. Work is split statically, so results depend on the number of threads only.
 */
final class Workers implements AutoCloseable {
    /** A hand-off costs 0.1 µs to a spinning thread and 10-12 µs to a parked one; this spins for about 0.5 ms. */
    private static final int SPINS = 20_000;

    /** Without yields, one busy process on two cores made each hand-off take 1 ms, the time of all spins. */
    private static final int SPINS_PER_YIELD = 64;

    /** A share of the work. */
    @FunctionalInterface
    interface Task {
        /** @param worker which share, in [0, workers) */
        void run(int worker, int workers);
    }

    private final Thread[] threads;
    private final AtomicReferenceArray<@Nullable Thread> parked;
    /** The last generation each worker has finished, 16 ints apart so that no two share a cache line. */
    private final AtomicIntegerArray done;

    private volatile int generation;
    private volatile boolean closed;
    private @Nullable Task task;
    private volatile @Nullable Throwable failure;
    private @Nullable Thread prepared;

    Workers(int count) {
        threads = new Thread[count - 1];
        parked = new AtomicReferenceArray<>(count);
        done = new AtomicIntegerArray(count * 16);
        for (int i = 0; i < threads.length; i++) {
            int worker = i + 1;
            threads[i] =
                    Thread.ofPlatform().daemon().name("qlora4j-cpu-" + worker).unstarted(() -> loop(worker));
            threads[i].start();
        }
    }

    /** Number of shares. */
    int count() {
        return threads.length + 1;
    }

    /**
     * Runs all shares and waits for them.
     *
     * @throws RuntimeException the first failure of a share
     */
    void run(Task work) {
        if (closed) {
            throw new IllegalStateException("the cpu device is closed");
        }
        prepareCaller();
        task = work;
        failure = null;
        int now = generation + 1;
        generation = now;
        for (int i = 1; i < count(); i++) {
            Thread sleeping = parked.get(i);
            if (sleeping != null) {
                LockSupport.unpark(sleeping);
            }
        }
        Throwable own = null;
        try {
            work.run(0, count());
        } catch (Throwable t) {
            own = t;
        }
        // all shares must end before this returns or throws: they work on the caller's tensors
        for (int i = 1; i < count(); i++) {
            int spins = 0;
            while (done.get(i * 16) != now) {
                pause(++spins);
            }
        }
        Throwable t = own != null ? own : failure;
        if (t instanceof RuntimeException e) {
            throw e;
        }
        if (t instanceof Error e) {
            throw e;
        }
    }

    /** Only the calling thread, prepared for oneDNN. */
    void runAlone(Task work) {
        prepareCaller();
        work.run(0, 1);
    }

    private void prepareCaller() {
        Thread caller = Thread.currentThread();
        // a virtual thread may have come to another system thread, and OpenMP's setting is that one's
        if (prepared != caller || caller.isVirtual()) {
            OneDnn.oneThreadForThisThread();
            prepared = caller;
        }
    }

    private void loop(int worker) {
        OneDnn.oneThreadForThisThread();
        int last = 0;
        while (true) {
            int spins = 0;
            while (generation == last) {
                if (++spins > SPINS) {
                    parked.set(worker, Thread.currentThread());
                    while (generation == last && !closed) {
                        LockSupport.park(this);
                    }
                    parked.set(worker, null);
                }
                if (closed) {
                    return;
                }
                pause(spins);
            }
            last = generation;
            Task work = task;
            try {
                if (work != null) {
                    work.run(worker, count());
                }
            } catch (Throwable t) {
                failure = t;
            }
            done.set(worker * 16, last);
        }
    }

    /**
     * Spins, but lets others in now and then: the one waited for may need this very core when another process has the
     * rest.
     */
    private static void pause(int spins) {
        if (spins % SPINS_PER_YIELD == 0) {
            Thread.yield();
        } else {
            Thread.onSpinWait();
        }
    }

    /** First element of a worker's share of n, shares being multiples of {@code unit} but for the last. */
    static int from(int n, int unit, int worker, int workers) {
        long units = (n + (long) unit - 1) / unit;
        return (int) Math.min(n, units * worker / workers * unit);
    }

    @Override
    public void close() {
        closed = true;
        for (Thread t : threads) {
            LockSupport.unpark(t);
        }
    }
}
