package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;

/** {@code mpirun -n N ./qlora sft} with real Open MPI: the same bits, refusals, and ranks that are lost. */
class MpiTest {
    @TempDir
    Path folder;

    private Path model;
    private Path rows;

    @BeforeAll
    static void require() {
        MpiRun.require();
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        NativePackages.ensure(NativePackage.BITSANDBYTES, System.out::println);
    }

    @BeforeEach
    void prepare() throws IOException {
        model = TinyModel.write(folder.resolve("model"));
        rows = TinyModel.rows(folder.resolve("rows.jsonl"));
    }

    /** 5 passes a step over 8 rows: the last step of an epoch has 3. */
    private List<String> sft(String output, String... more) {
        List<String> words = new ArrayList<>(List.of("sft", "--model", model.toString()));
        words.addAll(List.of("--quant_method", "bnb", "--quant_bits", "4"));
        words.addAll(List.of("--dataset", rows.toString(), "--val_dataset", rows.toString()));
        words.addAll(List.of("--output_dir", folder.resolve(output).toString(), "--add_version", "false"));
        words.addAll(List.of("--gradient_accumulation_steps", "5", "--lora_dropout", "0.1", "--learning_rate", "1e-2"));
        words.addAll(List.of("--logging_steps", "1", "--threads", "1"));
        words.addAll(List.of(more));
        return words;
    }

    private MpiRun run(String output, int ranks, String... more) throws Exception {
        MpiRun run = MpiRun.start(folder.resolve(output + "-log"), ranks, sft(output, more));
        assertEquals(0, run.finish(), run.err());
        return run;
    }

    private byte[] adapter(String output, int step) throws IOException {
        return Files.readAllBytes(folder.resolve(output + "/checkpoint-" + step + "/adapter_model.safetensors"));
    }

    /** What logging.jsonl says, without times. */
    private List<String> log(String output) throws IOException {
        return Files.readAllLines(folder.resolve(output + "/logging.jsonl")).stream()
                .map(line ->
                        line.replaceAll(",?\"(memory\\(GiB\\)|train_speed\\(s/it\\)|tokens_per_second)\":[^,}]*", ""))
                .toList();
    }

    @Test
    void theBitsAreTheSameOnAnyNumberOfRanks() throws Exception {
        String[] settings = {"--max_steps", "4", "--save_steps", "2", "--max_grad_norm", "0.01"};
        run("one", 0, settings);
        byte[] expected = adapter("one", 4);
        List<String> logged = log("one");
        assertTrue(logged.stream().anyMatch(line -> line.contains("eval_loss")), logged.toString());
        for (int ranks : new int[] {1, 2, 4}) {
            MpiRun run = run("on" + ranks, ranks, settings);
            assertArrayEquals(expected, adapter("on" + ranks, 4), ranks + " ranks");
            assertEquals(logged, log("on" + ranks), ranks + " ranks");
            assertEquals(1, run.out().split("trained 4 steps", -1).length - 1, "rank 0 alone prints: " + run.out());
            assertFalse(run.err().contains("qlora"), run.err());
        }
        run(
                "on4",
                2,
                "--max_steps",
                "6",
                "--resume_from_checkpoint",
                folder.resolve("on4/checkpoint-2").toString());
        run(
                "one",
                0,
                "--max_steps",
                "6",
                "--resume_from_checkpoint",
                folder.resolve("one/checkpoint-2").toString());
        assertArrayEquals(adapter("one", 6), adapter("on4", 6), "taken up by another number of ranks");
    }

    /** MPI's own order: close to the tree's, and the ranks agree well enough to go on. */
    @Test
    void fastReductionTrainsToo() throws Exception {
        run("fast", 2, "--max_steps", "2", "--reduction", "fast");
        assertTrue(adapter("fast", 2).length > 100_000);
    }

    @Test
    void ranksWithOtherOptionsAreRefused() throws Exception {
        String err = refused(
                new MpiRun.Rank(folder, sft("refused")),
                new MpiRun.Rank(folder, sft("refused", "--weight_decay", "0.2")));
        assertTrue(err.contains("weight_decay is 0.2 on rank 1 and 0.1 on rank 0"), err);
    }

    /** Two machines may have other rows under the same name. */
    @Test
    void ranksWithOtherRowsAreRefused() throws Exception {
        Path here = Files.createDirectories(folder.resolve("here"));
        Path there = Files.createDirectories(folder.resolve("there"));
        Files.copy(rows, here.resolve("data.jsonl"));
        Files.writeString(there.resolve("data.jsonl"), Files.readString(rows).replace("done", "over"));
        List<String> words = sft("refused", "--dataset", "data.jsonl");
        String err = refused(new MpiRun.Rank(here, words), new MpiRun.Rank(there, words));
        assertTrue(err.contains("crc32c is "), err);
    }

    private String refused(MpiRun.Rank... ranks) throws Exception {
        MpiRun run = MpiRun.startUnlike(folder.resolve("log"), List.of(ranks));
        assertEquals(2, run.finish(), run.err());
        assertTrue(run.err().contains("qlora: the ranks cannot train together: "), run.err());
        assertEquals(1, run.err().split("qlora: ", -1).length - 1, "said once: " + run.err());
        assertFalse(Files.exists(folder.resolve("refused/checkpoint-1")));
        return run.err();
    }

    /** @param signal KILL: mpirun sees the process end; STOP: the heartbeat sees its silence */
    @ParameterizedTest
    @ValueSource(strings = {"KILL", "STOP"})
    void aLostRankEndsTheOthersAndIsNamed(String signal) throws Exception {
        List<String> words = sft("lost", "--max_steps", "100000", "--save_steps", "1", "--save_total_limit", "2");
        words.addAll(List.of("--rank_timeout", "3", "--eval_strategy", "no"));
        MpiRun run = MpiRun.start(folder.resolve("log"), 2, words);
        run.awaitFile(folder.resolve("lost/checkpoint-3"));
        List<ProcessHandle> ranks = run.ranks();
        assertEquals(2, ranks.size());
        long start = System.nanoTime();
        MpiRun.signal(signal, ranks.get(1));
        int status = run.finish();
        double seconds = (System.nanoTime() - start) / 1e9;
        assertTrue(seconds < 30, seconds + " s");
        if (signal.equals("STOP")) {
            assertEquals(Ranks.LOST, status, run.err());
            assertTrue(
                    run.err()
                            .contains("qlora: rank 1 of 2 (process "
                                    + ranks.get(1).pid() + " on "),
                    run.err());
            assertTrue(run.err().contains("has given no sign of life for 3 s"), run.err());
        } else {
            assertEquals(128 + 9, status, run.err());
            assertTrue(run.err().contains("process rank 1 with PID"), run.err());
        }
        for (ProcessHandle rank : ranks) {
            MpiRun.awaitEnd(rank);
        }
        // whole, and taken up by the rank that is left
        String next = String.valueOf(newest("lost") + 1);
        run(
                "lost",
                1,
                "--max_steps",
                next,
                "--resume_from_checkpoint",
                folder.resolve("lost").toString());
    }

    private int newest(String output) throws IOException {
        try (var files = Files.list(folder.resolve(output))) {
            return files.map(f -> f.getFileName().toString())
                    .filter(n -> n.startsWith("checkpoint-"))
                    .mapToInt(n -> Integer.parseInt(n.substring("checkpoint-".length())))
                    .max()
                    .orElseThrow();
        }
    }

    /** A job that loses a rank is started again and ends with the bits it would have had. */
    @Test
    void aLostRunIsStartedAgain() throws Exception {
        String[] settings = {
            "--max_steps", "12", "--save_steps", "1", "--save_total_limit", "2", "--eval_strategy", "no"
        };
        run("whole", 2, settings);
        List<String> words = sft("again", settings);
        words.addAll(List.of("--max_restarts", "2", "--launch", "mpirun -n 2 --oversubscribe --bind-to none"));
        MpiRun run = MpiRun.start(folder.resolve("log"), 0, words);
        run.awaitFile(folder.resolve("again/checkpoint-3"));
        MpiRun.signal("KILL", run.ranks().get(1));
        assertEquals(0, run.finish(), run.err());
        assertTrue(run.out().contains("restart 1 of 2 from " + folder.resolve("again/checkpoint-")), run.out());
        assertArrayEquals(adapter("whole", 12), adapter("again", 12));
    }

    /** As mpirun does when a machine cannot be reached any more: the ranks have ended, what started them has not. */
    @Test
    void aLauncherThatLivesOnIsKilled() throws Exception {
        Path launcher = Files.writeString(
                folder.resolve("launcher"),
                "#!/bin/sh\nmpirun -n 2 --oversubscribe --bind-to none \"$@\" || sleep 1000\n");
        assertTrue(launcher.toFile().setExecutable(true));
        List<String> words = sft("again", "--max_steps", "30", "--save_steps", "1", "--save_total_limit", "2");
        words.addAll(List.of("--rank_timeout", "5", "--eval_strategy", "no"));
        words.addAll(List.of("--max_restarts", "3", "--launch", launcher.toString()));
        MpiRun run = MpiRun.start(folder.resolve("log"), 0, words);
        run.awaitFile(folder.resolve("again/checkpoint-3"));
        List<ProcessHandle> lost = run.ranks();
        MpiRun.signal("STOP", lost.get(1));
        assertEquals(0, run.finish(), run.err());
        assertTrue(run.out().contains("restart 1 of 3 from " + folder.resolve("again/checkpoint-")), run.out());
        assertTrue(run.err().contains("qlora: rank 0 has ended, and what starts it waits on"), run.err());
        assertTrue(Files.isDirectory(folder.resolve("again/checkpoint-30")));
        for (ProcessHandle rank : lost) {
            MpiRun.awaitEnd(rank);
        }
    }
}
