package org.qlora4j.samples;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.optim.train.Trainer;

/**
 * {@code --max_restarts}: {@code sft} as a process of its own, or as the job that {@code --launch} starts, that is
 * started again from its last checkpoint when it was lost.
 */
final class Restarts {
    /** Names a file; rank 0 writes the run's folder and its own process number there, a line each. */
    static final String RUN_FILE = "QLORA4J_RUN_FILE";
    /** Statuses after which another try would end the same way: done, a mistake, Ctrl-C and SIGTERM. */
    private static final Set<Integer> FINAL = Set.of(0, 2, Interruption.CTRL_C, 128 + 15);

    private static final int MAX_PAUSE_SECONDS = 60;

    private Restarts() {}

    static boolean wanted(Arguments a) {
        return a.integer("max_restarts") > 0 || a.has("launch");
    }

    /** Starts the run, and starts it again. @return its last exit status */
    static int run(Arguments a) {
        try {
            Path folder = Files.createTempDirectory("qlora4j-run");
            try {
                return run(a, folder);
            } finally {
                for (String file : List.of("sft.json", "run")) {
                    Files.deleteIfExists(folder.resolve(file));
                }
                Files.delete(folder);
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot start the run: " + e, e);
        }
    }

    private static int run(Arguments a, Path folder) throws IOException {
        Path options = folder.resolve("sft.json");
        AtomicFile.writeString(options, a.toJson().without(List.of("max_restarts", "launch")) + "\n");
        LauncherWatch watch = new LauncherWatch(folder.resolve("run"));
        List<String> more = List.of();
        int inVain = 0;
        for (int tries = 0; ; tries++) {
            int status = once(a, watch, folder, options, more);
            if (FINAL.contains(status) || tries >= a.integer("max_restarts")) {
                return status;
            }
            List<String> next = resume(folder.resolve("run"));
            inVain = next.equals(more) ? inVain + 1 : 0;
            // a link that is down for a minute must not use up all restarts
            int pause = a.has("launch") && inVain > 0 ? Math.min(MAX_PAUSE_SECONDS, 5 << Math.min(inVain, 8)) : 0;
            more = next;
            System.out.printf(
                    "qlora: the run ended with status %d; restart %d of %d%s %s%n",
                    status,
                    tries + 1,
                    a.integer("max_restarts"),
                    pause == 0 ? "" : " in " + pause + " s",
                    more.isEmpty() ? "from the start: there is no checkpoint yet" : "from " + more.getLast());
            if (!slept(pause)) {
                return Interruption.CTRL_C;
            }
        }
    }

    /** @return false if Ctrl-C or SIGTERM came */
    private static boolean slept(int seconds) {
        try (Interruption interruption = Interruption.calls(Thread.currentThread()::interrupt)) {
            Thread.sleep(seconds * 1000L);
            return !interruption.happened();
        } catch (InterruptedException e) {
            return false;
        }
    }

    private static int once(Arguments a, LauncherWatch watch, Path folder, Path options, List<String> more)
            throws IOException {
        List<String> command = new ArrayList<>();
        if (a.has("launch")) {
            command.addAll(List.of(a.text("launch").strip().split("\\s+")));
            if (command.getFirst().endsWith("mpirun")) {
                // the ranks on other machines get it too
                command.addAll(List.of("-x", RUN_FILE));
            }
        }
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), Main.class.getName()));
        command.addAll(List.of("sft", options.toString()));
        command.addAll(more);
        ProcessBuilder builder = new ProcessBuilder(command).inheritIO();
        builder.environment().put(RUN_FILE, folder.resolve("run").toString());
        Process process = builder.start();
        try (Interruption interruption = Interruption.calls(process::destroy)) {
            int status = watch.await(process);
            return interruption.happened() && status != 0 ? Interruption.CTRL_C : status;
        } catch (InterruptedException e) {
            process.destroy();
            Thread.currentThread().interrupt();
            return Interruption.CTRL_C;
        }
    }

    /** The options that take the run up again; none if it has no checkpoint. */
    private static List<String> resume(Path runFile) throws IOException {
        if (!Files.isRegularFile(runFile)) {
            return List.of();
        }
        Path output = Path.of(Files.readAllLines(runFile).getFirst());
        try {
            return List.of(
                    "--resume_from_checkpoint", Trainer.findCheckpoint(output).toString());
        } catch (IllegalArgumentException e) {
            return List.of();
        }
    }

    /**
     * Tells the process that watches over this run, if there is one, where its checkpoints are, and rank 0's number.
     */
    static void tellFolder(Path outputDir) {
        String file = System.getenv(RUN_FILE);
        if (file != null) {
            AtomicFile.writeString(
                    Path.of(file),
                    outputDir.toAbsolutePath() + "\n" + ProcessHandle.current().pid());
        }
    }
}
