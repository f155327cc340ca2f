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
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;

/** The command line as a process of its own that is stopped, or finds no room, in the middle of its work. */
class InterruptionTest {
    @TempDir
    Path folder;

    private Path output;
    private List<String> sft;

    @BeforeEach
    void prepare() throws IOException {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        output = folder.resolve("output");
        sft = List.of(
                "sft",
                "--model",
                TinyModel.write(folder.resolve("model")).toString(),
                "--dataset",
                TinyModel.rows(folder.resolve("rows.jsonl")).toString(),
                "--output_dir",
                output.toString(),
                "--add_version",
                "false",
                "--gradient_accumulation_steps",
                "1",
                "--logging_steps",
                "1",
                "--threads",
                "1");
    }

    /** @param limit in front of java, e.g. a limit of file sizes */
    private Process start(String limit, String... more) throws IOException {
        List<String> java = Cli.java("-Xmx512m", "-XX:-UsePerfData");
        java.add(Main.class.getName());
        java.addAll(sft);
        java.addAll(List.of(more));
        List<String> command = new ArrayList<>(List.of("bash", "-c", limit + "exec \"$@\"", "bash"));
        command.addAll(java);
        return new ProcessBuilder(command)
                .redirectOutput(folder.resolve("stdout.txt").toFile())
                .redirectError(folder.resolve("stderr.txt").toFile())
                .start();
    }

    private int finish(Process process) throws InterruptedException {
        assertTrue(process.waitFor(120, TimeUnit.SECONDS), "still running");
        return process.exitValue();
    }

    private String stderr() throws IOException {
        return Files.readString(folder.resolve("stderr.txt")).replaceAll("(?m)^WARNING.*\\R", "");
    }

    private List<String> names() throws IOException {
        try (Stream<Path> files = Files.list(output)) {
            return files.map(f -> f.getFileName().toString()).sorted().toList();
        }
    }

    private static Map<String, byte[]> contents(Path checkpoint) throws IOException {
        Map<String, byte[]> contents = new TreeMap<>();
        try (Stream<Path> files = Files.list(checkpoint)) {
            for (Path file : files.toList()) {
                contents.put(file.getFileName().toString(), Files.readAllBytes(file));
            }
        }
        return contents;
    }

    @Test
    void aFullDiskLeavesThePreviousCheckpointWhole() throws Exception {
        assertEquals(0, finish(start("", "--max_steps", "2", "--save_steps", "2")), stderr());
        Path checkpoint = output.resolve("checkpoint-2");
        Map<String, byte[]> before = contents(checkpoint);
        assertTrue(before.get("adapter_model.safetensors").length > 100 * 1024);

        String resume = checkpoint.toString();
        Process full = start("ulimit -f 64; ", "--max_steps", "4", "--resume_from_checkpoint", resume);
        assertEquals(2, finish(full), stderr());
        assertTrue(stderr().startsWith("qlora: cannot write " + output), stderr());
        assertTrue(stderr().contains("File too large"), stderr());
        assertEquals(1, stderr().lines().count(), stderr());
        Map<String, byte[]> after = contents(checkpoint);
        assertEquals(before.keySet(), after.keySet());
        before.forEach((name, bytes) -> assertArrayEquals(bytes, after.get(name), name));
        assertEquals(
                List.of("args.json", "checkpoint-2", "images", "last", "logging.jsonl", "report.html", "runs"),
                names());

        Process room = start("", "--max_steps", "4", "--resume_from_checkpoint", resume);
        assertEquals(0, finish(room), stderr());
        assertTrue(names().containsAll(List.of("checkpoint-2", "checkpoint-4")), names().toString());
    }

    /** @param moment the name of a file whose appearance is the moment: a folder that is being saved, or a whole one */
    @ParameterizedTest
    @ValueSource(strings = {".checkpoint-3.part", "checkpoint-2"})
    void ctrlCEndsAtAWholeCheckpoint(String moment) throws Exception {
        Process process = start("", "--max_steps", "5000", "--save_steps", "1", "--save_total_limit", "2");
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(120);
        while (!Files.exists(output.resolve(moment))) {
            assertTrue(process.isAlive(), stderr());
            assertTrue(System.nanoTime() < deadline, "no " + moment);
            Thread.onSpinWait();
        }
        // 2 is SIGINT
        assertEquals(
                0,
                new ProcessBuilder("kill", "-2", String.valueOf(process.pid()))
                        .start()
                        .waitFor());
        assertEquals(0, finish(process), stderr());
        assertEquals("", stderr());
        String out = Files.readString(folder.resolve("stdout.txt"));
        Matcher told = Pattern.compile(
                        "stopped after step (\\d+) of 5000; to go on: --resume_from_checkpoint (\\S+)\n$")
                .matcher(out);
        assertTrue(told.find(), out);
        assertEquals(output.resolve("checkpoint-" + told.group(1)).toString(), told.group(2));
        assertFalse(names().stream().anyMatch(name -> name.startsWith(".")), names().toString());
        String oneMore = String.valueOf(Integer.parseInt(told.group(1)) + 1);
        Process resumed = start("", "--max_steps", oneMore, "--resume_from_checkpoint", told.group(2));
        assertEquals(0, finish(resumed), stderr());
    }
}
