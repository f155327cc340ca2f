package org.qlora4j.nf4.file;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AtomicFileTest {
    @TempDir
    Path folder;

    @Test
    void replacesAFile() throws IOException {
        Path file = folder.resolve("a.json");
        AtomicFile.writeString(file, "old");
        AtomicFile.writeString(file, "größer");
        assertEquals("größer", Files.readString(file));
        assertEquals(List.of("a.json"), names());
    }

    @Test
    void fullDiskKeepsTheOldFileAndNamesIt() throws IOException {
        Path file = folder.resolve("a.bin");
        AtomicFile.writeString(file, "old");
        IOException full = new IOException("No space left on device");
        UncheckedIOException e = assertThrows(
                UncheckedIOException.class,
                () -> AtomicFile.write(file, channel -> {
                    channel.write(ByteBuffer.wrap(new byte[1000]));
                    throw full;
                }));
        assertSame(full, e.getCause());
        assertTrue(e.getMessage().contains(file.toString()), e.getMessage());
        assertTrue(e.getMessage().contains("No space left on device"), e.getMessage());
        assertEquals("old", Files.readString(file));
        assertEquals(List.of("a.bin"), names());
    }

    @Test
    void otherFailuresPassAndLeaveNothing() throws IOException {
        IllegalStateException mine = new IllegalStateException("mine");
        IllegalStateException e = assertThrows(
                IllegalStateException.class,
                () -> AtomicFile.write(folder.resolve("a.bin"), channel -> {
                    throw mine;
                }));
        assertSame(mine, e);
        assertEquals(List.of(), names());
    }

    @Test
    void failedRenameLeavesNothing() throws IOException {
        Path occupied = Files.createDirectory(folder.resolve("a"));
        Files.writeString(occupied.resolve("inside"), "x");
        assertThrows(UncheckedIOException.class, () -> AtomicFile.writeString(occupied, "text"));
        assertEquals(List.of("a"), names());
    }

    @Test
    void missingFolderIsNamed() {
        Path file = folder.resolve("missing").resolve("a.txt");
        UncheckedIOException e = assertThrows(UncheckedIOException.class, () -> AtomicFile.writeString(file, "text"));
        assertTrue(e.getMessage().contains(file.toString()), e.getMessage());
    }

    private List<String> names() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }
}
