package org.qlora4j.samples;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Commands ended by kill -9 at random moments of their writing. */
class KillFaultsTest {
    @TempDir
    static Path folder;

    private static FaultRun run;
    private final SplittableRandom random = new SplittableRandom(FaultTable.SEED);

    @BeforeAll
    static void train() throws IOException {
        run = new FaultRun(folder);
        Path plain = Files.createDirectory(folder.resolve("without-tokenizer"));
        for (String file : List.of("config.json", "model.safetensors")) {
            Files.copy(run.model.resolve(file), plain.resolve(file));
        }
    }

    /** From when the process has the lock of what it writes, i.e. reads and prepares no more, to its end. */
    private static double writingMillis(Path lock, String... words) throws IOException, InterruptedException {
        Process process = run.start("", "", words);
        run.await(process, () -> Files.exists(lock));
        long start = System.nanoTime();
        run.finish(process);
        return (System.nanoTime() - start) / 1e6;
    }

    /** Ends a process at a moment of its writing, the time before and behind it a little included. */
    private void kill(double writingMillis, Path lock, String... words) throws IOException, InterruptedException {
        Process process = run.start("", "", words);
        run.await(process, () -> Files.exists(lock));
        Thread.sleep((long) (random.nextDouble() * 1.1 * writingMillis));
        process.destroyForcibly();
        process.waitFor();
    }

    @Test
    void training() throws IOException, InterruptedException {
        Path output = folder.resolve("killed");
        String[] words = run.sft(output, "--save_total_limit", "4");
        double millis = writingMillis(output.resolve(".lock"), words);
        run.delete(output);
        List<String> lost = new ArrayList<>();
        int checkpoints = 0;
        int resumed = 0;
        for (int i = 0; i < FaultTable.TRIES; i++) {
            kill(millis, output.resolve(".lock"), words);
            checkpoints += FaultRun.steps(output).size();
            resumed += FaultRun.steps(output).isEmpty() ? 0 : 1;
            lost.addAll(run.checkpointsLost(output));
            lost.addAll(run.resumed(output));
            run.delete(output);
            FaultTable.count("sft", i, lost);
        }
        FaultTable.row(
                "kill -9 of sft",
                FaultTable.TRIES,
                lost,
                checkpoints + " checkpoints found, all whole; " + resumed
                        + " runs resumed, the others begun again, all to the unbroken run's bits");
    }

    @ParameterizedTest
    @ValueSource(strings = {"merge", "GGUF", "quantize"})
    void export(String kind) throws IOException, InterruptedException {
        boolean gguf = kind.equals("GGUF");
        String end = gguf ? ".gguf" : "";
        Path expected = folder.resolve(kind + "-expected" + end);
        Path output = folder.resolve(kind + "-killed" + end);
        run.here(export(kind, expected));
        Map<String, String> whole = FaultRun.whole(expected);
        Path lock = folder.resolve("." + output.getFileName() + ".lock");
        double millis = writingMillis(lock, export(kind, output));
        remove(output);
        List<String> lost = new ArrayList<>();
        int absent = 0;
        int atEnd = 0;
        for (int i = 0; i < FaultTable.TRIES; i++) {
            kill(millis, lock, export(kind, output));
            if (!Files.exists(output)) {
                absent++;
                // what the killed one left is no hindrance, and goes
                run.here(export(kind, output));
            } else if (Files.exists(lock)) {
                atEnd++;
                lost.addAll(complete(whole, output));
                remove(output);
                // takes the lock file that is left, and the next try waits for one of its own
                run.here(export(kind, output));
            }
            lost.addAll(complete(whole, output));
            if (!whole.equals(FaultRun.whole(expected))) {
                lost.add(expected + ", an older one, has changed");
            }
            lost.addAll(hidden("." + output.getFileName()));
            remove(output);
            FaultTable.count(kind, i, lost);
        }
        FaultTable.row(
                "kill -9 of export, " + kind,
                FaultTable.TRIES,
                lost,
                "output absent " + absent + " times, else complete, " + atEnd
                        + " times with an empty lock file beside it; exported again after each");
    }

    private static String[] export(String kind, Path output) {
        List<String> words = new ArrayList<>(List.of("export", "--threads", "1"));
        if (kind.equals("merge")) {
            words.addAll(List.of("--adapters", run.unbroken.resolve("last").toString()));
        }
        // llama.cpp has no name for the tiny tokenizer
        Path model = kind.equals("GGUF") ? folder.resolve("without-tokenizer") : run.model;
        words.addAll(List.of("--model", model.toString()));
        words.addAll(
                switch (kind) {
                    case "merge" -> List.of("--merge_lora", "true", "--merge_report", "false");
                    case "GGUF" -> List.of("--to_gguf", "true", "--outtype", "q8_0");
                    default -> List.of("--quant_method", "bnb", "--quant_bits", "4");
                });
        words.addAll(List.of(kind.equals("GGUF") ? "--outfile" : "--output_dir", output.toString()));
        return words.toArray(String[]::new);
    }

    private static List<String> complete(Map<String, String> whole, Path output) throws IOException {
        return whole.equals(FaultRun.whole(output)) ? List.of() : List.of(output + " is not complete");
    }

    private static void remove(Path output) throws IOException {
        if (Files.isDirectory(output)) {
            run.delete(output);
        } else {
            Files.deleteIfExists(output);
        }
    }

    private static List<String> hidden(String prefix) throws IOException {
        String[] names = folder.toFile().list((f, name) -> name.startsWith(prefix));
        return names == null || names.length == 0 ? List.of() : List.of("left behind: " + Arrays.toString(names));
    }
}
