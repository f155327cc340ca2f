package org.qlora4j.lora.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;

/** A reader of Parquet that waits without end, as hardwood does on some damaged files. */
class ParquetStallTest {
    private static final Path FILE = Path.of("x.parquet");

    @Test
    void aReaderThatWaitsIsGivenUp() throws InterruptedException {
        BrokenRows broken = new BrokenRows(false);
        CountDownLatch interrupted = new CountDownLatch(1);
        assertTimeoutPreemptively(
                Duration.ofSeconds(20),
                () -> ParquetRows.watched(FILE, broken, 100, rows -> {
                    rows.set(2);
                    try {
                        new CountDownLatch(1).await();
                    } catch (InterruptedException e) {
                        interrupted.countDown();
                    }
                }));
        interrupted.await();
        assertEquals(1, broken.count());
        assertTrue(
                broken.first().getFirst().contains("no row came in 100 ms"),
                broken.first().getFirst());
    }

    @Test
    void whatItThrowsIsPassedOn() {
        BrokenRows broken = new BrokenRows(false);
        IOException thrown = new IOException("x");
        assertEquals(
                thrown,
                assertThrows(
                        IOException.class,
                        () -> ParquetRows.watched(FILE, broken, 1000, rows -> {
                            throw thrown;
                        })));
        assertEquals(0, broken.count());
    }
}
