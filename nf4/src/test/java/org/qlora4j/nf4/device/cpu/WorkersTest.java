package org.qlora4j.nf4.device.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(60)
class WorkersTest {
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 8})
    void everyShareRunsOnceInEachRound(int count) {
        try (Workers workers = new Workers(count)) {
            AtomicIntegerArray runs = new AtomicIntegerArray(count);
            for (int round = 1; round <= 200; round++) {
                workers.run((worker, workers1) -> {
                    assertEquals(count, workers1);
                    runs.incrementAndGet(worker);
                });
                for (int w = 0; w < count; w++) {
                    assertEquals(round, runs.get(w), "runs of worker " + w);
                }
            }
        }
    }

    @Test
    void parkedWorkersWakeUp() throws InterruptedException {
        try (Workers workers = new Workers(2)) {
            int[] runs = new int[2];
            for (int round = 0; round < 3; round++) {
                // longer than any spinning
                Thread.sleep(30);
                workers.run((worker, count) -> runs[worker]++);
            }
            assertArrayEquals(new int[] {3, 3}, runs);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2})
    void aFailureOfAnyShareSurfacesAndThePoolGoesOn(int failing) {
        try (Workers workers = new Workers(3)) {
            IllegalStateException failure = new IllegalStateException("share " + failing);
            AtomicIntegerArray runs = new AtomicIntegerArray(3);
            IllegalStateException thrown = assertThrows(
                    IllegalStateException.class,
                    () -> workers.run((worker, count) -> {
                        runs.incrementAndGet(worker);
                        if (worker == failing) {
                            throw failure;
                        }
                    }));
            assertSame(failure, thrown);
            workers.run((worker, count) -> runs.incrementAndGet(worker));
            assertEquals("[2, 2, 2]", runs.toString());
        }
    }

    @Test
    void errorsSurfaceToo() {
        try (Workers workers = new Workers(2)) {
            assertThrows(
                    StackOverflowError.class,
                    () -> workers.run((worker, count) -> {
                        if (worker == 1) {
                            throw new StackOverflowError("of a worker");
                        }
                    }));
        }
    }

    @Test
    void anyThreadMayBeTheCaller() throws InterruptedException {
        try (Workers workers = new Workers(2)) {
            int[] runs = new int[2];
            for (int i = 0; i < 3; i++) {
                Thread caller = new Thread(() -> workers.run((worker, count) -> runs[worker]++));
                caller.start();
                caller.join();
            }
            assertArrayEquals(new int[] {3, 3}, runs);
        }
    }

    @Test
    void aClosedPoolRefusesAndItsThreadsEnd() throws InterruptedException {
        Workers workers = new Workers(2);
        Thread[] thread = new Thread[2];
        workers.run((worker, count) -> thread[worker] = Thread.currentThread());
        workers.close();
        thread[1].join();
        assertThrows(IllegalStateException.class, () -> workers.run((worker, count) -> {}));
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 15, 16, 17, 100, 49152, Integer.MAX_VALUE})
    void sharesCoverAllOnceAndStartOnUnits(int n) {
        for (int workers : new int[] {1, 2, 3, 7, 64}) {
            for (int unit : new int[] {1, 16, 64}) {
                assertEquals(0, Workers.from(n, unit, 0, workers));
                assertEquals(n, Workers.from(n, unit, workers, workers));
                for (int w = 0; w < workers; w++) {
                    int from = Workers.from(n, unit, w, workers);
                    int to = Workers.from(n, unit, w + 1, workers);
                    assertEquals(Math.max(from, to), to, "shares overlap");
                    assertEquals(0, from == n ? 0 : from % unit, "share starts at " + from);
                }
            }
        }
    }
}
