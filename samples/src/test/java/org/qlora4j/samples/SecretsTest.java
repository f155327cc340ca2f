package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;

/** Tokens and passwords of the process reach neither what is printed nor what is written. */
class SecretsTest {
    private static final String SECRET = "s3cr3t-of-the-test";
    private static final List<String> TOKENS = List.of("HF_TOKEN", "MODELSCOPE_API_TOKEN");
    private static final List<String> ENDPOINTS = List.of("HF_ENDPOINT", "MODELSCOPE_ENDPOINT");

    @TempDir
    Path folder;

    @BeforeEach
    void set() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        // properties stand for the environment (HubSettings)
        TOKENS.forEach(name -> System.setProperty(name, SECRET));
        ENDPOINTS.forEach(name -> System.setProperty(name, "http://user:" + SECRET + "@127.0.0.1:9"));
        System.setProperty("HF_HUB_CACHE", folder.resolve("hf").toString());
        System.setProperty("MODELSCOPE_CACHE", folder.resolve("ms").toString());
    }

    @AfterEach
    void clear() {
        Stream.of(TOKENS, ENDPOINTS, List.of("HF_HUB_CACHE", "MODELSCOPE_CACHE"))
                .flatMap(List::stream)
                .forEach(System::clearProperty);
    }

    @Test
    void aWholeRunWritesNone() throws IOException {
        Path model = TinyModel.write(folder.resolve("model"));
        Path rows = TinyModel.rows(folder.resolve("rows.jsonl"));
        Path output = folder.resolve("output");
        Cli.Output run = Cli.qlora(
                "sft",
                "--model",
                model.toString(),
                "--dataset",
                rows.toString(),
                "--output_dir",
                output.toString(),
                "--max_steps",
                "2",
                "--logging_steps",
                "1");
        assertEquals(0, run.exit(), run.err());
        assertFalse((run.out() + run.err()).contains(SECRET));
        int files = 0;
        try (Stream<Path> written = Files.walk(output)) {
            for (Path file : written.filter(Files::isRegularFile).toList()) {
                assertFalse(
                        new String(Files.readAllBytes(file), StandardCharsets.ISO_8859_1).contains(SECRET),
                        file.toString());
                files++;
            }
        }
        assertTrue(files > 5, "args.json, log, report, adapter and state; found " + files);
    }

    /** Options may hold anything: what a run puts into the system's folder for temporary files is its user's alone. */
    @Test
    void temporaryFilesArePrivate() throws IOException, InterruptedException {
        Path temporary = Files.createDirectory(folder.resolve("temporary"));
        Path model = TinyModel.write(folder.resolve("model"));
        Path rows = TinyModel.rows(folder.resolve("rows.jsonl"));
        List<String> command = new ArrayList<>(List.of("bash", "-c", "umask 000; exec \"$@\"", "bash"));
        command.addAll(
                Cli.java("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Djava.io.tmpdir=" + temporary));
        command.add(Main.class.getName());
        command.addAll(List.of("sft", "--model", model.toString(), "--dataset", rows.toString()));
        command.addAll(List.of("--output_dir", folder.resolve("output").toString(), "--optim", "paged_adamw_8bit"));
        command.addAll(List.of("--max_steps", "2", "--max_restarts", "1"));
        Process run = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(folder.resolve("log.txt").toFile())
                .start();
        Map<String, String> seen = new TreeMap<>();
        while (!run.waitFor(1, TimeUnit.MILLISECONDS)) {
            try (Stream<Path> files = Files.list(temporary)) {
                for (Path file : files.toList()) {
                    seen.put(
                            file.getFileName().toString().replaceAll("\\d{4,}", ""),
                            PosixFilePermissions.toString(Files.getPosixFilePermissions(file)));
                }
            } catch (NoSuchFileException | UncheckedIOException gone) {
                continue;
            }
        }
        assertEquals(0, run.exitValue(), Files.readString(folder.resolve("log.txt")));
        assertEquals("rwx------", seen.get("qlora4j-run"), seen.toString());
        assertTrue(Set.of("rwx------", "rw-------").containsAll(seen.values()), seen.toString());
        assertEquals(0, temporary.toFile().list().length, "nothing is left");
    }
}
