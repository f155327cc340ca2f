package org.qlora4j.samples;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;
import java.util.function.ToIntFunction;
import java.util.stream.Stream;
import org.qlora4j.bindings.Mpi;
import org.qlora4j.nf4.parallel.Agreement;
import org.qlora4j.nf4.parallel.Communicator;

/** What a command needs to run as one of several ranks that {@code mpirun} has started. */
final class Ranks {
    /**
     * For whom starts it again: a rank was lost, nothing is wrong with what the user said. As sysexits' EX_TEMPFAIL.
     */
    static final int LOST = 75;
    /** Options that may differ from rank to rank. */
    private static final Set<String> OWN =
            Set.of("threads", "device", "natives", "max_memory", "output_dir", "max_restarts", "launch");

    private Ranks() {}

    /**
     * Runs a command with the ranks it is one of, or alone. Rank 0 alone prints. A rank that fails ends all.
     *
     * @return its exit status
     */
    static int run(Arguments a, ToIntFunction<Communicator> command) {
        if (!Mpi.isLaunched()) {
            return command.applyAsInt(Communicator.SINGLE);
        }
        Communicator[] opened = new Communicator[1];
        Communicator ranks = Communicator.mpi(a.number("rank_timeout"), sentence -> {
            System.err.println("qlora: " + sentence + ". All ranks stop; go on from the last checkpoint with"
                    + " --resume_from_checkpoint, or let --max_restarts do it");
            haltSoon();
            opened[0].abort(LOST);
        });
        opened[0] = ranks;
        try {
            if (!ranks.isRoot()) {
                System.setOut(new PrintStream(OutputStream.nullOutputStream(), true, StandardCharsets.UTF_8));
            }
            int status = command.applyAsInt(ranks);
            ranks.close();
            return status;
        } catch (Agreement.DifferentRanksException e) {
            // all ranks are here, with the same message
            ranks.close();
            if (ranks.isRoot()) {
                throw e;
            }
            return 2;
        } catch (RuntimeException | Error e) {
            fail(ranks, e);
            throw e;
        }
    }

    /** MPI_Abort asks mpirun to end the job; a rank that is cut off from it ends by itself. */
    private static void haltSoon() {
        Thread thread = new Thread(
                () -> {
                    LockSupport.parkNanos(5_000_000_000L);
                    Runtime.getRuntime().halt(LOST);
                },
                "halt");
        thread.setDaemon(true);
        thread.start();
    }

    /** A mistake that all ranks make is said once, by rank 0: the others give it the time. */
    private static void fail(Communicator ranks, Throwable e) {
        if (!ranks.isRoot()) {
            LockSupport.parkNanos(3_000_000_000L);
        }
        Progress.end();
        boolean known = Main.isUsersMistake(e);
        System.err.println("qlora: " + (ranks.isRoot() ? "" : "rank " + ranks.rank() + " of " + ranks.size() + ": ")
                + (known ? Advice.sentence(e) : e.toString()));
        if (!known) {
            e.printStackTrace();
        }
        ranks.abort(known ? 2 : 1);
    }

    /** Lets one rank of each machine do what the others then find done, e.g. downloads. */
    static void firstOnEachMachine(Communicator ranks, Runnable work) {
        if (ranks.localRank() == 0) {
            work.run();
        }
        ranks.allGather(new byte[0]);
    }

    /** Unless the user has said: the cores this process may use, divided by the ranks that may use the same. */
    static void settleThreads(Arguments a, Communicator ranks) {
        if (ranks.size() == 1 || a.integer("threads") > 0) {
            return;
        }
        byte[] mine = cores().getBytes(StandardCharsets.UTF_8);
        long sharing = Arrays.stream(ranks.allGather(mine))
                .filter(other -> Arrays.equals(mine, other))
                .count();
        a.settle("threads", Math.max(1, Runtime.getRuntime().availableProcessors() / sharing));
    }

    private static String cores() {
        try (Stream<String> lines = Files.lines(Path.of("/proc/self/status"))) {
            return Files.readString(Path.of("/proc/sys/kernel/hostname"))
                    + lines.filter(line -> line.startsWith("Cpus_allowed_list"))
                            .findFirst()
                            .orElse("");
        } catch (IOException e) {
            throw new UncheckedIOException("cannot find out which cores this process may use: " + e, e);
        }
    }

    /**
     * Refuses ranks of another program, with other options or another model.
     *
     * @param model the base's folder or file
     */
    static void agree(Communicator ranks, Arguments a, Path model) {
        Map<String, String> common = new LinkedHashMap<>();
        common.put("the program", programVersion());
        common.put("Java", Runtime.version().toString());
        a.toJson().properties().forEach(e -> {
            if (!OWN.contains(e.getKey())) {
                common.put(e.getKey(), e.getValue().toString());
            }
        });
        common.put("the base model", size(model));
        Agreement.require(ranks, common);
    }

    /** Size of the jar, or nothing when classes lie in folders: enough to tell builds apart. */
    private static String programVersion() {
        Path code = Path.of(
                Ranks.class.getProtectionDomain().getCodeSource().getLocation().getPath());
        return code.getFileName() + (Files.isRegularFile(code) ? " of " + size(code) : "");
    }

    private static String size(Path path) {
        try {
            if (!Files.isDirectory(path)) {
                return Files.size(path) + " bytes";
            }
            long sum = 0;
            try (Stream<Path> files = Files.list(path)) {
                for (Path file : files.filter(Files::isRegularFile).toList()) {
                    sum += Files.size(file);
                }
            }
            return sum + " bytes";
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + path + ": " + e, e);
        }
    }
}
