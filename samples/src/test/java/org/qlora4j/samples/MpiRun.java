package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;

/** The command line as a job of real Open MPI, on this machine. */
final class MpiRun {
    private final Path folder;
    private final Process process;

    private MpiRun(Path folder, Process process) {
        this.folder = folder;
        this.process = process;
    }

    /** Skips a test where there is no Open MPI; on CI that is a failure. */
    static void require() {
        boolean there = Stream.of(System.getenv("PATH").split(File.pathSeparator))
                .anyMatch(p -> Files.isExecutable(Path.of(p, "mpirun")));
        String wanted = "mpirun is missing; apt-get install openmpi-bin";
        if (System.getenv("CI") != null) {
            assertTrue(there, wanted);
        }
        Assumptions.assumeTrue(there, wanted);
    }

    /** @param folder of the output @param ranks 0 for no mpirun at all */
    static MpiRun start(Path folder, int ranks, List<String> words) throws IOException {
        return start(folder, ranks, words, Map.of());
    }

    /** @param environment of all ranks, beside this process's */
    static MpiRun start(Path folder, int ranks, List<String> words, Map<String, String> environment)
            throws IOException {
        List<String> command = new ArrayList<>();
        if (ranks > 0) {
            command.addAll(List.of("mpirun", "-n", String.valueOf(ranks), "--oversubscribe", "--bind-to", "none"));
        }
        command.addAll(java());
        command.addAll(words);
        return start(folder, command, environment);
    }

    /** A rank with words and a working folder of its own. */
    record Rank(Path folder, List<String> words) {}

    /** Ranks of one job that are not alike. */
    static MpiRun startUnlike(Path folder, List<Rank> ranks) throws IOException {
        List<String> command = new ArrayList<>(List.of("mpirun", "--oversubscribe", "--bind-to", "none"));
        for (Rank rank : ranks) {
            if (command.contains("-n")) {
                command.add(":");
            }
            command.addAll(List.of("-n", "1", "--wdir", rank.folder.toString()));
            command.addAll(java());
            command.addAll(rank.words);
        }
        return start(folder, command, Map.of());
    }

    private static MpiRun start(Path folder, List<String> command, Map<String, String> environment) throws IOException {
        Files.createDirectories(folder);
        ProcessBuilder builder = new ProcessBuilder(command)
                .redirectOutput(folder.resolve("stdout.txt").toFile())
                .redirectError(folder.resolve("stderr.txt").toFile());
        builder.environment().put("OMPI_ALLOW_RUN_AS_ROOT", "1");
        builder.environment().put("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        builder.environment().putAll(environment);
        return new MpiRun(folder, builder.start());
    }

    private static List<String> java() {
        List<String> command = Cli.java(
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:-UsePerfData",
                "-Dqlora4j.launcherLingers=2000",
                "-Dqlora4j.golden=" + System.getProperty("qlora4j.golden"));
        command.add(Main.class.getName());
        return command;
    }

    int finish() throws InterruptedException, IOException {
        if (!process.waitFor(180, TimeUnit.SECONDS)) {
            process.destroyForcibly();
            throw new AssertionError("still running; " + err());
        }
        return process.exitValue();
    }

    boolean isAlive() {
        return process.isAlive();
    }

    String out() throws IOException {
        return Files.readString(folder.resolve("stdout.txt"));
    }

    String err() throws IOException {
        return Files.readString(folder.resolve("stderr.txt")).replaceAll("(?m)^WARNING.*\\R", "");
    }

    /** The processes of the ranks, by rank. */
    List<ProcessHandle> ranks() {
        List<ProcessHandle> ranks = new ArrayList<>();
        process.descendants()
                .filter(p -> rank(p) >= 0)
                .sorted((a, b) -> Integer.compare(rank(a), rank(b)))
                .forEach(ranks::add);
        return ranks;
    }

    private static int rank(ProcessHandle process) {
        try {
            for (String entry : Files.readString(Path.of("/proc/" + process.pid() + "/environ"))
                    .split("\0")) {
                if (entry.startsWith("OMPI_COMM_WORLD_RANK=")) {
                    return Integer.parseInt(entry.substring(entry.indexOf('=') + 1));
                }
            }
            return -1;
        } catch (IOException e) {
            return -1;
        }
    }

    /** Waits until a file is there. */
    void awaitFile(Path file) throws IOException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(120);
        while (!Files.exists(file)) {
            assertTrue(isAlive(), err());
            assertTrue(System.nanoTime() < deadline, "no " + file);
            Thread.onSpinWait();
        }
    }

    /**
     * Waits until a rank has ended, a few seconds after mpirun at most; a process that nobody has asked for its status
     * has.
     */
    static void awaitEnd(ProcessHandle rank) throws IOException, InterruptedException {
        Path stat = Path.of("/proc/" + rank.pid() + "/stat");
        for (int tries = 0; rank.isAlive() && Files.exists(stat); tries++) {
            if (Files.readString(stat).contains(") Z ")) {
                return;
            }
            assertTrue(tries < 100, "rank " + rank.pid() + " lives on");
            Thread.sleep(100);
        }
    }

    /** Sends a signal. */
    static void signal(String name, ProcessHandle process) throws IOException, InterruptedException {
        int status = new ProcessBuilder("kill", "-" + name, String.valueOf(process.pid()))
                .start()
                .waitFor();
        assertTrue(status == 0, "kill " + status);
    }
}
