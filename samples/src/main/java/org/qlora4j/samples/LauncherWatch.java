package org.qlora4j.samples;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * Waits for the tries of a run, but not for a launcher that hangs: mpirun waits a quarter of an hour for a machine that
 * it can reach no more, and for ever for one that it could not reach at the start. Only launchers that start rank 0 on
 * this machine, below themselves, are watched; others, as srun, are waited for.
 */
final class LauncherWatch {
    /** From rank 0's end to the launcher's. Tests shorten it. */
    private static final long LINGER_MILLIS = Long.getLong("qlora4j.launcherLingers", 20_000);
    /** From the launcher's start to that of rank 0's process. */
    private static final long LAUNCH_MILLIS = 60_000;

    private final Path runFile;
    private boolean ranksAreHere;

    /** @param runFile where rank 0 writes its process number, in the last line */
    LauncherWatch(Path runFile) {
        this.runFile = runFile;
    }

    /** @return the exit status of a process, or that of a lost run if it hung and was killed */
    int await(Process process) throws InterruptedException, IOException {
        Optional<ProcessHandle> rank = Optional.empty();
        long alive = System.nanoTime();
        while (!process.waitFor(500, TimeUnit.MILLISECONDS)) {
            if (rank.isEmpty()) {
                rank = firstRank(process);
                ranksAreHere |= rank.isPresent();
            }
            // of a first try nobody knows where its ranks will be
            if (rank.map(ProcessHandle::isAlive).orElseGet(() -> !ranksAreHere || isStarted(process))) {
                alive = System.nanoTime();
            }
            long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - alive);
            if (millis > (rank.isPresent() ? LINGER_MILLIS : LAUNCH_MILLIS)) {
                System.err.println("qlora: rank 0 has " + (rank.isPresent() ? "ended" : "not been started")
                        + ", and what starts it waits on, as for a machine that it cannot reach: it is killed");
                kill(process);
                return Ranks.LOST;
            }
        }
        return process.exitValue();
    }

    private static boolean isStarted(Process process) {
        return process.descendants()
                .anyMatch(
                        p -> p.info().command().filter(c -> c.endsWith("/java")).isPresent());
    }

    /** Rank 0, if it is of this try. */
    private Optional<ProcessHandle> firstRank(Process process) throws IOException {
        if (!Files.isRegularFile(runFile)) {
            return Optional.empty();
        }
        long pid = Long.parseLong(Files.readAllLines(runFile).getLast());
        return process.descendants().filter(p -> p.pid() == pid).findFirst();
    }

    private static void kill(Process process) throws InterruptedException {
        List<ProcessHandle> all = process.descendants().toList();
        process.destroyForcibly();
        all.forEach(ProcessHandle::destroyForcibly);
        process.waitFor();
    }
}
