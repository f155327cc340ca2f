package org.qlora4j.nf4.file;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Files that appear whole or not at all: written under another name in the same folder, forced to disk, then renamed. A
 * crash or a full disk leaves the old file as it was.
 */
public final class AtomicFile {
    private static final AtomicLong COUNTER = new AtomicLong();

    private AtomicFile() {}

    /** Writes the content of a file. */
    @FunctionalInterface
    public interface Body {
        /** @param channel open for writing, at position 0 */
        void write(FileChannel channel) throws IOException;
    }

    /**
     * Writes or replaces a file.
     *
     * @param target the file; its folder must exist
     * @param body writes the content; what it throws is passed on after the temporary file is deleted
     * @throws UncheckedIOException if writing fails, e.g. because the disk is full; it names the file
     */
    public static void write(Path target, Body body) {
        rename(writeTemporary(target, body), target);
    }

    /** Writes or replaces a text file in UTF-8; see {@link #write(Path, Body)}. */
    public static void writeString(Path target, String text) {
        ByteBuffer bytes = StandardCharsets.UTF_8.encode(text);
        write(target, channel -> writeFully(channel, bytes));
    }

    /**
     * Removes what a killed process left of a file that it was writing. For who alone may write that file, see
     * {@link FolderLock}.
     */
    public static void cleanUp(Path target) {
        Path folder = target.toAbsolutePath().getParent();
        String left = Pattern.quote("." + target.getFileName() + ".") + "\\d+-\\d+\\.tmp";
        if (folder == null) {
            return;
        }
        try (Stream<Path> files = Files.list(folder)) {
            files.filter(file -> file.getFileName().toString().matches(left)).forEach(AtomicFile::deleteQuietly);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot list " + folder + ": " + e, e);
        }
    }

    static void writeFully(FileChannel channel, ByteBuffer bytes) throws IOException {
        while (bytes.hasRemaining()) {
            channel.write(bytes);
        }
    }

    /** Writes next to the target and forces to disk; nothing is left behind on failure. */
    static Path writeTemporary(Path target, Body body) {
        Path temporary = target;
        boolean done = false;
        try (Opened opened = openTemporary(target)) {
            temporary = opened.path();
            body.write(opened.channel());
            opened.channel().force(true);
            done = true;
        } catch (IOException e) {
            done = false;
            throw cannotWrite(target, e);
        } finally {
            if (!done && !temporary.equals(target)) {
                deleteQuietly(temporary);
            }
        }
        return temporary;
    }

    /** Moves a temporary file to its name; deletes it on failure. */
    static void rename(Path temporary, Path target) {
        try {
            Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
            forceFolder(target);
        } catch (IOException e) {
            deleteQuietly(temporary);
            throw cannotWrite(target, e);
        }
    }

    private record Opened(Path path, FileChannel channel) implements AutoCloseable {
        @Override
        public void close() throws IOException {
            channel.close();
        }
    }

    private static Opened openTemporary(Path target) throws IOException {
        // Files.createTempFile would make the model readable by its owner only
        while (true) {
            Path path = target.resolveSibling("." + target.getFileName() + "."
                    + ProcessHandle.current().pid() + "-" + COUNTER.incrementAndGet() + ".tmp");
            try {
                FileChannel channel = FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
                // for Ctrl-C; after the rename there is nothing of that name
                path.toFile().deleteOnExit();
                return new Opened(path, channel);
            } catch (FileAlreadyExistsException leftByCrashedProcess) {
                continue;
            }
        }
    }

    /** Makes the rename itself durable. */
    static void forceFolder(Path target) throws IOException {
        Path folder = target.toAbsolutePath().getParent();
        if (folder != null) {
            try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
                channel.force(true);
            }
        }
    }

    static void deleteQuietly(Path file) {
        try {
            Files.deleteIfExists(file);
        } catch (IOException e) {
            System.getLogger(AtomicFile.class.getName())
                    .log(System.Logger.Level.WARNING, "cannot delete {0}: {1}", file, e);
        }
    }

    private static UncheckedIOException cannotWrite(Path target, IOException e) {
        return new UncheckedIOException("cannot write " + target + ": " + e + "; the temporary file was removed", e);
    }
}
