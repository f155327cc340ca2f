package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.nf4.device.cpu.CpuDevice;
import org.qlora4j.nf4.tensor.Tensor;

/** Optimizer state in mapped files: {@code -Dqlora4j.pagedMiB=2048} steps 2 GiB of it ({@code slow-tests.sh}). */
class PagedStateTest {
    private static final int MIB = Integer.getInteger("qlora4j.pagedMiB", 256);
    private static final int PIECE = 1 << 20;

    @TempDir
    Path folder;

    private static long rssAnonKib() throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("RssAnon:")) {
                return Long.parseLong(line.replaceAll("\\D+", ""));
            }
        }
        throw new IOException("no RssAnon in /proc/self/status");
    }

    /** Two fp32 averages a parameter, stepped in pieces with one piece of parameters. */
    @Test
    void stateIsNotAnonymousMemory() throws IOException {
        OptimizerRule rule = new OptimizerRule.AdamW(0.9, 0.999, 1e-8, 0, true);
        int n = Math.toIntExact((long) MIB * (1 << 20) / 8);
        try (CpuDevice device = new CpuDevice(2);
                Scope scope = device.newScope();
                Scope paged = device.newPagedScope(folder)) {
            Tensor p = scope.newTensor(1, PIECE);
            Tensor g = scope.newTensor(1, PIECE);
            device.ops().fill(p, 1);
            device.ops().fill(g, 0.5);
            OptimizerState.Full small = OptimizerState.Full.allocate(scope, rule, PIECE);
            device.ops().fill(small.state1(), 0);
            device.ops().fill(small.state2(), 0);
            OptimizerStep step = new OptimizerStep(rule, 1, 1e-3, 1);
            device.ops().optimizerStep(p, g, small, step);
            float[] expected = new float[PIECE];
            device.download(small.state2(), expected, 0);
            // interpreted vector code fills the heap with vectors until it is compiled
            for (int i = 0; i < 100; i++) {
                device.ops().optimizerStep(p, g, small, step);
            }
            long before = rssAnonKib();
            long start = System.nanoTime();
            OptimizerState state = OptimizerState.Full.allocate(paged, rule, n);
            for (int first = 0; first < n; first += PIECE) {
                device.ops().optimizerStep(p, g, state.range(first, PIECE), step);
            }
            long grown = (rssAnonKib() - before) / 1024;
            System.out.printf(
                    "%d MiB of paged state stepped in %.1f s; RssAnon grew by %d MiB%n",
                    MIB, (System.nanoTime() - start) / 1e9, grown);
            assertTrue(grown < 100, "RssAnon grew by " + grown + " MiB");
            float[] last = new float[PIECE];
            device.download(state.state2().cols(n - PIECE, PIECE), last, 0);
            assertArrayEquals(expected, last);
        }
    }

    @Test
    void pagedTensorsAreZeroAndForOptimizersOnly() throws IOException {
        try (CpuDevice device = new CpuDevice(1)) {
            Tensor t;
            float[] values = new float[15];
            try (Scope paged = device.newPagedScope(folder.resolve("new"))) {
                t = paged.newTensor(3, 5);
                device.download(t, values, 0);
                assertArrayEquals(new float[15], values);
                assertTrue(paged.isPaged());
                assertEquals(60, paged.bytes());
                String message = assertThrows(
                                ShapeException.class, () -> device.ops().fill(t, 1))
                        .getMessage();
                assertTrue(message.contains("lies in paged memory"), message);
                try (var files = Files.list(folder.resolve("new"))) {
                    assertEquals(0, files.count(), "the file has a name");
                }
            }
            assertFalse(t.memory().isOpen());
            assertThrows(IllegalStateException.class, () -> device.download(t, values, 0));
        }
    }

    /** paging that is not to be had says what failed where. */
    @Test
    void r21AFolderThatTakesNoFilesIsNamed() throws IOException {
        Path file = Files.createFile(folder.resolve("file"));
        try (CpuDevice device = new CpuDevice(1);
                Scope paged = device.newPagedScope(file)) {
            String message = assertThrows(java.io.UncheckedIOException.class, () -> paged.newTensor(1, 1))
                    .getMessage();
            assertTrue(message.contains(file.toString()), message);
        }
    }
}
