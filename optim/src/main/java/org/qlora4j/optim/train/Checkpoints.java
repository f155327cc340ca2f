package org.qlora4j.optim.train;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.TreeSet;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.file.AtomicFolder;

/**
 * The folders {@code checkpoint-N} of a run and the links {@code last} and {@code best}. Whatever ends the process,
 * each {@code checkpoint-N} is whole and {@code last} leads to one; see {@link AtomicFolder}.
 */
final class Checkpoints {
    private static final System.Logger LOG = System.getLogger(Checkpoints.class.getName());
    private static final String NAME = "checkpoint-";

    private final Path outputDir;

    Checkpoints(Path outputDir) {
        this.outputDir = outputDir;
    }

    Path folder(int step) {
        return outputDir.resolve(NAME + step);
    }

    /** Removes what a killed run left half written or half deleted. */
    void cleanUp() {
        try {
            Files.createDirectories(outputDir);
            AtomicFolder.cleanUp(outputDir, NAME);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot clean up " + outputDir + ": " + e, e);
        }
    }

    /** @param content writes the files into the folder it is given */
    Path save(int step, Consumer<Path> content) {
        Path target = folder(step);
        AtomicFolder.write(target, content);
        return target;
    }

    /** Points {@code last} and {@code best} to checkpoints. */
    void link(int last, @Nullable Integer best) {
        link("last", last);
        if (best != null && Files.isDirectory(folder(best))) {
            link("best", best);
        }
    }

    private void link(String name, int step) {
        Path link = outputDir.resolve(name);
        Path fresh = outputDir.resolve("." + NAME + name);
        try {
            if (Files.isDirectory(link, LinkOption.NOFOLLOW_LINKS)) {
                throw new IOException("it is a folder");
            }
            Files.deleteIfExists(fresh);
            Files.createSymbolicLink(fresh, Path.of(NAME + step));
            Files.move(fresh, link, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException | UnsupportedOperationException e) {
            LOG.log(System.Logger.Level.WARNING, "no link " + link + ": " + e);
        }
    }

    /** Deletes the oldest until at most {@code limit} are left; the newest and the best stay. */
    void keep(int limit, int newest, @Nullable Integer best) {
        if (limit == 0) {
            return;
        }
        try {
            TreeSet<Integer> steps = steps(outputDir);
            for (int step : steps.toArray(Integer[]::new)) {
                boolean kept = step == newest || best != null && step == best;
                if (steps.size() > limit && !kept) {
                    AtomicFolder.delete(folder(step));
                    steps.remove(step);
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot remove old checkpoints in " + outputDir + ": " + e, e);
        }
    }

    private static TreeSet<Integer> steps(Path folder) throws IOException {
        TreeSet<Integer> steps = new TreeSet<>();
        try (var entries = Files.list(folder)) {
            entries.map(f -> f.getFileName().toString())
                    .filter(n -> n.matches(NAME + "\\d{1,9}"))
                    .forEach(n -> steps.add(Integer.valueOf(n.substring(NAME.length()))));
        }
        return steps;
    }

    /**
     * The checkpoint a path means: itself, what a link leads to, or the newest one of a run's folder.
     *
     * @throws IllegalArgumentException if there is none
     */
    static Path find(Path path) {
        try {
            if (Files.isRegularFile(path.resolve(TrainerCheckpoint.STATE))) {
                return path.toRealPath();
            }
            if (Files.isDirectory(path)) {
                TreeSet<Integer> steps = steps(path);
                if (!steps.isEmpty()) {
                    return path.resolve(NAME + steps.last()).toRealPath();
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + path + ": " + e, e);
        }
        throw new IllegalArgumentException(
                "resume_from_checkpoint " + path + ": expected a checkpoint, which has a file "
                        + TrainerCheckpoint.STATE + ", or a run's folder with checkpoints");
    }
}
