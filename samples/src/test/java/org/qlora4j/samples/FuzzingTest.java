package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.code_intelligence.jazzer.Jazzer;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.samples.fuzz.FuzzRun;

/** Every reader of files under Jazzer for some seconds; {@code samples/scripts/fuzz.sh} does it for hours. */
class FuzzingTest {
    private static final int INPUTS = 10_000;

    @Test
    void noInputBreaksAReader(@TempDir Path folder) throws IOException, InterruptedException, URISyntaxException {
        List<String> targets = targets();
        assertTrue(targets.size() >= 12, targets.toString());
        List<String> command = Cli.java(
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Xmx512m",
                "-XX:+EnableDynamicAgentLoading",
                "-Djdk.attach.allowAttachSelf=true",
                "-Dqlora4j.golden=" + System.getProperty("qlora4j.golden"),
                "-Dqlora4j.root=" + System.getProperty("qlora4j.root"),
                "-Dqlora4j.fuzz=" + String.join(",", targets));
        command.addAll(List.of(
                Jazzer.class.getName(),
                "--target_class=" + FuzzRun.class.getName(),
                "--instrumentation_includes=org.qlora4j.**",
                "--instrumentation_excludes=org.qlora4j.nf4.device.**",
                "--disabled_hooks=com.code_intelligence.jazzer.sanitizers.RegexInjection",
                // the same inputs in every run, and no limit that a busy machine could exceed
                "-seed=1",
                "-runs=" + INPUTS,
                "-timeout=300",
                "-rss_limit_mb=0",
                "-print_final_stats=1",
                Files.createDirectory(folder.resolve("inputs")).toString(),
                Files.createDirectory(folder.resolve("seeds")).toString()));
        Path log = folder.resolve("log.txt");
        Process process = new ProcessBuilder(command)
                .directory(folder.toFile())
                .redirectErrorStream(true)
                .redirectOutput(log.toFile())
                .start();
        try {
            assertTrue(process.waitFor(10, TimeUnit.MINUTES), "no end after 10 minutes");
        } finally {
            process.destroyForcibly();
        }
        List<String> said = Files.readAllLines(log).stream()
                .filter(line -> !line.startsWith("INFO: Instrumented"))
                .toList();
        String end = String.join("\n", said.subList(Math.max(0, said.size() - 60), said.size()));
        assertEquals(0, process.exitValue(), end);
        assertTrue(said.contains("stat::number_of_executed_units: " + INPUTS), end);
    }

    private static List<String> targets() throws IOException, URISyntaxException {
        Path root = Path.of(FuzzingTest.class
                .getProtectionDomain()
                .getCodeSource()
                .getLocation()
                .toURI());
        try (Stream<Path> files = Files.walk(root)) {
            return files.map(file -> root.relativize(file).toString())
                    .filter(name -> name.endsWith("Fuzz.class"))
                    .map(name -> name.replace(".class", "").replace('/', '.').replace('\\', '.'))
                    .sorted()
                    .toList();
        }
    }
}
