package org.qlora4j.samples;

import java.util.concurrent.CountDownLatch;

/** While it is open, Ctrl-C (or SIGTERM) asks the work to end well and waits until it has. */
final class Interruption implements AutoCloseable {
    private final CountDownLatch ended = new CountDownLatch(1);
    private final Thread hook;
    private volatile boolean happened;

    private Interruption(Runnable stop) {
        hook = new Thread(() -> {
            happened = true;
            stop.run();
            try {
                ended.await();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        });
    }

    /** @param stop asks the work to end; called on another thread */
    static Interruption calls(Runnable stop) {
        Interruption interruption = new Interruption(stop);
        Runtime.getRuntime().addShutdownHook(interruption.hook);
        return interruption;
    }

    boolean happened() {
        return happened;
    }

    /** The work has ended. Does not return if the process is to end. */
    @Override
    public void close() {
        ended.countDown();
        if (happened) {
            // waits for the end that has begun: what follows the work is not to start
            System.exit(128 + 2);
        }
        try {
            Runtime.getRuntime().removeShutdownHook(hook);
        } catch (IllegalStateException e) {
            System.exit(128 + 2);
        }
    }
}
