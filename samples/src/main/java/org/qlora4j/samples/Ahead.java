package org.qlora4j.samples;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.function.Consumer;
import java.util.function.Supplier;

/** A result that a thread of its own works on while the one that will need it does something else. */
final class Ahead<T> {
    private final CompletableFuture<T> result = new CompletableFuture<>();

    private Ahead() {}

    /** @param name of the thread */
    static <T> Ahead<T> of(String name, Supplier<T> work) {
        Ahead<T> ahead = new Ahead<>();
        Thread.ofPlatform().daemon().name(name).start(() -> {
            try {
                ahead.result.complete(work.get());
            } catch (RuntimeException | Error e) {
                ahead.result.completeExceptionally(e);
            }
        });
        return ahead;
    }

    /** Waits for it. Throws what the work threw. */
    T get() {
        try {
            return result.join();
        } catch (CompletionException e) {
            if (e.getCause() instanceof Error error) {
                throw error;
            }
            throw (RuntimeException) e.getCause();
        }
    }

    /** Frees what nobody will ask for anymore, as soon as it is there; a failure of the work is nobody's then. */
    void discard(Consumer<? super T> close) {
        result.thenAccept(close);
    }
}
