package org.qlora4j.nf4.file;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * Folders that appear whole or not at all: written under a hidden name beside the target ({@code .NAME.part}), renamed
 * when they are whole, and renamed ({@code .NAME.deleted}) before they are deleted. A folder that is replaced waits as
 * {@code .NAME.old} until the new one has its name; {@link #cleanUp} brings it back if that never happened. One process
 * at a time may write a target, see {@link FolderLock}.
 */
public final class AtomicFolder {
    private static final System.Logger LOG = System.getLogger(AtomicFolder.class.getName());
    private static final String PART = ".part";
    private static final String OLD = ".old";
    private static final String DELETED = ".deleted";

    private AtomicFolder() {}

    /**
     * Writes or replaces a folder.
     *
     * @param target its parent is created if missing
     * @param content writes the files into the folder it is given; what it throws is passed on after that folder is
     *     deleted
     * @throws UncheckedIOException if writing fails, e.g. because the disk is full; it names the folder
     */
    public static void write(Path target, Consumer<Path> content) {
        Path work = hidden(target, PART);
        Path old = hidden(target, OLD);
        try {
            Files.createDirectories(parent(target));
            restore(target, old);
            deleteTree(work);
            Files.createDirectory(work);
            content.accept(work);
            if (Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
                Files.move(target, old, StandardCopyOption.ATOMIC_MOVE);
            }
            Files.move(work, target, StandardCopyOption.ATOMIC_MOVE);
            AtomicFile.forceFolder(target);
            deleteTree(old);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + target + ": " + e, e);
        } finally {
            try {
                deleteTree(work);
            } catch (IOException e) {
                LOG.log(System.Logger.Level.WARNING, "could not remove " + work + ": " + e);
            }
        }
    }

    /** Deletes a folder, so that it is either whole or not there at any time. */
    public static void delete(Path folder) throws IOException {
        if (Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
            Path hidden = hidden(folder, DELETED);
            deleteTree(hidden);
            Files.move(folder, hidden, StandardCopyOption.ATOMIC_MOVE);
            deleteTree(hidden);
        }
    }

    /**
     * Removes what a killed process left half written or half deleted, and gives a folder that it was about to replace
     * its name again.
     *
     * @param prefix of the names of the folders meant
     */
    public static void cleanUp(Path parent, String prefix) throws IOException {
        try (var entries = Files.newDirectoryStream(parent, "." + prefix + "*")) {
            for (Path entry : entries) {
                String name = entry.getFileName().toString();
                if (name.endsWith(OLD)) {
                    restore(entry.resolveSibling(name.substring(1, name.length() - OLD.length())), entry);
                } else {
                    deleteTree(entry);
                }
            }
        }
    }

    private static void restore(Path target, Path old) throws IOException {
        if (Files.exists(old, LinkOption.NOFOLLOW_LINKS)) {
            if (Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
                deleteTree(old);
            } else {
                Files.move(old, target, StandardCopyOption.ATOMIC_MOVE);
            }
        }
    }

    private static Path hidden(Path folder, String suffix) {
        return folder.resolveSibling("." + folder.getFileName() + suffix);
    }

    private static Path parent(Path target) throws IOException {
        Path parent = target.toAbsolutePath().getParent();
        if (parent == null) {
            throw new IOException("it is the root of the file system");
        }
        return parent;
    }

    /** Deletes a folder and what is in it, if it is there; links are deleted, not followed. */
    public static void deleteTree(Path root) throws IOException {
        if (!Files.exists(root, LinkOption.NOFOLLOW_LINKS)) {
            return;
        }
        Files.walkFileTree(root, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
                Files.delete(file);
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult postVisitDirectory(Path folder, @Nullable IOException e) throws IOException {
                Files.delete(folder);
                return FileVisitResult.CONTINUE;
            }
        });
    }
}
