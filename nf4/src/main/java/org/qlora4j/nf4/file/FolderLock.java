package org.qlora4j.nf4.file;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/**
 * The right to write something, for one process at a time, and in it for one holder: a hidden file that is locked. The
 * system lets go of the lock when the process ends, whatever ends it, so none is left behind that would have to be
 * broken; clocks play no part.
 */
public final class FolderLock implements AutoCloseable {
    /** Held in this process. Closing any channel of a file drops the process's lock on it, so none is opened twice. */
    private static final Set<Path> HELD = ConcurrentHashMap.newKeySet();

    private final Path file;
    private final FileChannel channel;

    private FolderLock(Path file, FileChannel channel) {
        this.file = file;
        this.channel = channel;
    }

    /**
     * Takes the lock of a folder that is written into.
     *
     * @param folder created if missing
     * @throws IllegalArgumentException if another process, or another holder in this one, has it
     * @throws UncheckedIOException if nothing can be written there
     */
    public static FolderLock inside(Path folder) {
        return take(folder, folder, ".lock");
    }

    /** Takes the lock of a folder or file that is to appear; see {@link #inside}. */
    public static FolderLock beside(Path target) {
        Path parent = target.toAbsolutePath().getParent();
        return take(target, parent == null ? target : parent, "." + target.getFileName() + ".lock");
    }

    private static FolderLock take(Path what, Path folder, String name) {
        try {
            Files.createDirectories(folder);
            Path file = folder.toRealPath().resolve(name);
            if (!HELD.add(file)) {
                throw inUse(what, "");
            }
            FileChannel channel = null;
            try {
                while (channel == null) {
                    channel = tryTake(what, file);
                }
                return new FolderLock(file, channel);
            } finally {
                if (channel == null) {
                    HELD.remove(file);
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + what + ": " + e, e);
        }
    }

    /** @return null if who had the lock let go of it and deleted the file in between */
    private static @Nullable FileChannel tryTake(Path what, Path file) throws IOException {
        try {
            Files.createFile(file);
        } catch (FileAlreadyExistsException e) {
            // held by another, or left by one that was killed
        }
        FileChannel channel;
        Object key;
        try {
            key = key(file);
            channel = FileChannel.open(file, StandardOpenOption.WRITE);
        } catch (NoSuchFileException e) {
            return null;
        }
        boolean taken = false;
        try {
            if (!lock(channel)) {
                throw inUse(what, " (process " + Files.readString(file).strip() + ")");
            }
            taken = key.equals(key(file));
            if (taken) {
                channel.truncate(0);
                String pid = ProcessHandle.current().pid() + "\n";
                AtomicFile.writeFully(channel, ByteBuffer.wrap(pid.getBytes(StandardCharsets.US_ASCII)));
            }
            return taken ? channel : null;
        } catch (NoSuchFileException e) {
            return null;
        } finally {
            if (!taken) {
                channel.close();
            }
        }
    }

    /** Which file it is: device and inode. */
    private static Object key(Path file) throws IOException {
        return Files.readAttributes(file, BasicFileAttributes.class).fileKey();
    }

    private static boolean lock(FileChannel channel) {
        try {
            return channel.tryLock() != null;
        } catch (IOException e) {
            // some network file systems have no locks; better to run without than not at all
            System.getLogger(FolderLock.class.getName())
                    .log(System.Logger.Level.WARNING, "no lock, see to it that no second run writes here: " + e);
            return true;
        }
    }

    private static IllegalArgumentException inUse(Path what, String who) {
        return new IllegalArgumentException(
                what + " is being written by another run" + who + "; wait for its end, or name another folder");
    }

    /** Lets go of it. */
    @Override
    public void close() {
        // deleted while it is locked: who opened it meanwhile sees that the name is gone, and makes a new one
        AtomicFile.deleteQuietly(file);
        try {
            channel.close();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot close " + file + ": " + e, e);
        } finally {
            HELD.remove(file);
        }
    }
}
