package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Signals, a second run in the same folder, clocks that jump, and memory that is not there. */
class ProcessFaultsTest {
    private static final Path FAKETIME = Path.of("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1");

    @TempDir
    static Path folder;

    private static FaultRun run;

    @BeforeAll
    static void train() throws IOException {
        run = new FaultRun(folder);
    }

    /** A run that goes on until it is told to end. */
    private static Process startLong(Path output) throws IOException {
        Process process = run.start(
                "",
                "",
                run.sft(output, "--save_steps", "1000000", "--logging_steps", "1000000", "--max_steps", "1000000"));
        run.await(process, () -> Files.exists(output.resolve("logging.jsonl")));
        return process;
    }

    @ParameterizedTest
    @CsvSource({"SIGTERM, 15", "Ctrl-C, 2"})
    void aSignalSavesAndEndsWell(String name, String number) throws IOException, InterruptedException {
        SplittableRandom random = new SplittableRandom(FaultTable.SEED);
        List<String> lost = new ArrayList<>();
        int tries = Math.min(50, FaultTable.TRIES);
        for (int i = 0; i < tries; i++) {
            Path output = folder.resolve("stopped");
            Process process = startLong(output);
            Thread.sleep(random.nextInt(200));
            FaultRun.signal(process, number);
            int status = run.finish(process);
            if (status != 0
                    || FaultRun.steps(output).size() != 1
                    || !run.stdout().contains("stopped after step ")) {
                lost.add("status " + status + ", " + FaultRun.steps(output) + run.stdout() + run.stderr());
            } else {
                run.here(run.sft(
                        output,
                        "--resume_from_checkpoint",
                        output.toString(),
                        "--save_steps",
                        "1000000",
                        "--max_steps",
                        String.valueOf(FaultRun.steps(output).last() + 1)));
            }
            run.delete(output);
        }
        FaultTable.row(name + " while training", tries, lost, "exit code 0, a checkpoint of the last step, resumed");
    }

    /** The second one does not wait for a save, and what was saved before stays. */
    @Test
    void twiceCtrlCEndsAtOnce() throws IOException, InterruptedException {
        List<String> lost = new ArrayList<>();
        int tries = Math.min(50, FaultTable.TRIES);
        long longest = 0;
        int atOnce = 0;
        for (int i = 0; i < tries; i++) {
            Path output = folder.resolve("twice");
            Process process = run.start("", "", run.sft(output, "--save_total_limit", "0"));
            run.await(process, () -> Files.exists(output.resolve("checkpoint-2")));
            FaultRun.signal(process, "2");
            long start = System.nanoTime();
            FaultRun.signal(process, "2");
            int status = run.finish(process);
            longest = Math.max(longest, (System.nanoTime() - start) / 1_000_000);
            atOnce += status == Interruption.CTRL_C ? 1 : 0;
            // it may have ended well before the second one came
            if (status != 0 && status != Interruption.CTRL_C) {
                lost.add("status " + status + run.stderr());
            }
            lost.addAll(run.checkpointsLost(output));
            lost.addAll(run.resumed(output));
            run.delete(output);
        }
        assertTrue(longest < 5000, longest + " ms");
        FaultTable.row(
                "Ctrl-C twice",
                tries,
                lost,
                "exit code 130 " + atOnce + " times, 0 where it had ended before; within " + longest + " ms");
    }

    @Test
    void aSecondRunInTheFolderIsRefused() throws IOException, InterruptedException {
        List<String> lost = new ArrayList<>();
        int tries = Math.min(20, FaultTable.TRIES);
        for (int i = 0; i < tries; i++) {
            Path output = folder.resolve("shared");
            Process first = startLong(output);
            String arguments = Files.readString(output.resolve("args.json"));
            // in this process: the first one's files are those of FaultRun.start
            Cli.Output second = Cli.qlora(run.sft(output));
            if (second.exit() != 2
                    || !second.err()
                            .equals("qlora: " + output + " is being written by another run (process " + first.pid()
                                    + "); wait for its end, or name another folder\n")) {
                lost.add("the second run: " + second.exit() + second.err());
            }
            if (!arguments.equals(Files.readString(output.resolve("args.json")))) {
                lost.add("the second run changed args.json");
            }
            FaultRun.signal(first, "15");
            if (run.finish(first) != 0 || FaultRun.steps(output).size() != 1) {
                lost.add("the first run: " + run.stderr());
            }
            run.delete(output);
        }
        FaultTable.row("two runs into one folder", tries, lost, "the second refused, the first not disturbed");
    }

    /** The order of runs and checkpoints is that of their numbers, not of times. */
    @Test
    void aClockThatWasSetBack() throws IOException, InterruptedException {
        List<String> lost = new ArrayList<>();
        Path output = folder.resolve("clock");
        run.here(run.sft(output, "--save_total_limit", "0", "--max_steps", "3"));
        FileTime future = FileTime.from(Instant.parse("2099-01-01T00:00:00Z"));
        Files.setLastModifiedTime(output.resolve("checkpoint-1"), future);
        Files.createDirectories(output.resolve("v0-20990101-000000"));
        lost.addAll(run.resumed(output));
        run.here(run.sft(output, "--add_version", "true"));
        String[] versions = output.toFile().list((f, name) -> name.startsWith("v1-"));
        assertEquals(1, versions == null ? 0 : versions.length);
        FaultTable.row("clock set back or forward between runs", 1, lost, "nothing overwritten, resumed by number");
    }

    /** Times that the console shows come from a clock that nobody sets. */
    @Test
    void aClockThatJumpsWhileTraining() throws IOException, InterruptedException {
        if (!Files.exists(FAKETIME)) {
            FaultTable.row("clock set back and forward while training", 0, List.of(), "not tried: no libfaketime");
            return;
        }
        List<String> lost = new ArrayList<>();
        int tries = Math.min(20, FaultTable.TRIES);
        for (int i = 0; i < tries; i++) {
            lost.addAll(i % 2 == 0 ? jumps("+400d", "-400d") : jumps("-400d", "+1h"));
        }
        FaultTable.row(
                "clock set back and forward while training",
                tries,
                lost,
                "same bits, all checkpoints whole, no time shown is of the jump");
    }

    private static List<String> jumps(String first, String second) throws IOException, InterruptedException {
        Path output = folder.resolve("jump");
        Path time = Files.writeString(folder.resolve("time"), "+0");
        Process process = run.start(
                "export LD_PRELOAD=" + FAKETIME + " FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1"
                        + " FAKETIME_TIMESTAMP_FILE=" + time + "; ",
                "",
                run.sft(output, "--save_total_limit", "0"));
        run.await(process, () -> Files.exists(output.resolve("checkpoint-3")));
        Files.writeString(time, first);
        run.await(process, () -> Files.exists(output.resolve("checkpoint-6")));
        Files.writeString(time, second);
        List<String> lost = new ArrayList<>();
        if (run.finish(process) != 0 || FaultRun.steps(output).size() != FaultRun.STEPS) {
            lost.add(FaultRun.steps(output) + run.stderr());
        }
        List<String> log = Files.readAllLines(output.resolve("logging.jsonl"));
        // seconds a step, and in what is printed the time left: neither negative nor of a day
        if (!log.stream().allMatch(line -> line.matches(".*\"train_speed\\(s/it\\)\":\\d{1,2}\\.\\d.*"))
                || run.stdout().matches("(?s).*(-\\d+:\\d|\\d{2}:\\d\\d:\\d\\d).*")) {
            lost.add("times: " + log + run.stdout());
        }
        lost.addAll(run.checkpointsLost(output));
        run.delete(output);
        return lost;
    }

    @Test
    void theHeapIsTooSmall() throws IOException, InterruptedException {
        List<String> lost = new ArrayList<>();
        int tries = Math.max(2, Math.min(16, FaultTable.TRIES));
        int sentences = 0;
        for (int i = 0; i < tries; i++) {
            Path output = folder.resolve("heap");
            // below 8 MiB the JDK itself runs out of memory, at times before it is in our hands
            Process process = run.start("", "-Xmx" + (8 + 20 * i / tries) + "m", run.sft(output));
            if (run.finish(process) != 0) {
                lost.addAll(run.sentence(process, "the Java heap of ", "QLORA_JAVA_OPTS=-Xmx"));
                sentences++;
            }
            if (Files.exists(output)) {
                lost.addAll(run.checkpointsLost(output));
                lost.addAll(run.resumed(output));
                run.delete(output);
            }
        }
        assertTrue(sentences > 0, "no heap was too small");
        FaultTable.row("out of memory on the heap (-Xmx)", tries, lost, sentences + " sentences, else trained");
    }

    /** Rows that need more than the process may have; the estimate does not know of ulimit. */
    @Test
    void theProcessGetsNoMoreMemory() throws IOException, InterruptedException {
        List<String> lost = new ArrayList<>();
        StringBuilder rows = new StringBuilder();
        for (int i = 0; i < 64; i++) {
            rows.append("{\"query\": \"").append("many words ".repeat(300)).append("\", \"response\": \"ok\"}\n");
        }
        String data = Files.writeString(folder.resolve("long.jsonl"), rows).toString();
        int tries = Math.max(1, Math.min(10, FaultTable.TRIES));
        for (int i = 0; i < tries; i++) {
            Path output = folder.resolve("memory");
            Process process = run.start(
                    "ulimit -v " + (1_900_000 + 20_000 * i) + "; ",
                    "-Xmx128m -XX:CompressedClassSpaceSize=64m -XX:ReservedCodeCacheSize=64m",
                    run.sft(output, "--dataset", data, "--per_device_train_batch_size", "64", "--max_length", "8192"));
            lost.addAll(run.sentence(process, "no room for ", "lower max_length"));
            if (Files.exists(output)) {
                run.delete(output);
            }
        }
        FaultTable.row("out of memory off the heap (ulimit -v)", tries, lost, "a sentence each");
    }
}
