package org.qlora4j.samples;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * The project's tests that take a GPU, on the one that is there, in a JVM of their own: libbitsandbytes ends the
 * process over a CUDA error. They are in a bundle's {@code tests}, or where Maven compiles them.
 */
final class GpuTests {
    /** JUnit with its console, in one file. */
    static final String CONSOLE = "junit-platform-console-standalone.jar";

    /** Every operation, the bytes of quantization, and whole models against golden values. */
    static final List<String> ALL = List.of(
            "org.qlora4j.nf4.device.CudaOpsTest",
            "org.qlora4j.nf4.device.cuda.BitsAndBytesBlocksTest",
            "org.qlora4j.lora.model.CudaGoldenModelsTest");

    static final List<String> OPERATIONS = ALL.subList(0, 1);

    /** Modules whose test classes they are made of. */
    static final List<String> MODULES = List.of("nf4", "lora");

    private static final Pattern COUNT =
            Pattern.compile("\\[\\s*(\\d+) tests (found|skipped|aborted|successful|failed)\\s*]");

    private final Path root;
    private final List<Path> classPath;

    private GpuTests(Path root, List<Path> classPath) {
        this.root = root;
        this.classPath = classPath;
    }

    /**
     * What came out.
     *
     * @param exit 0 if all passed
     * @param notRun skipped or aborted
     */
    record Outcome(int exit, int successful, int failed, int notRun, double seconds) {
        boolean passed() {
            return exit == 0 && failed == 0 && successful > 0;
        }
    }

    /** The folder that qlora was started from. */
    static Path root() {
        return Path.of(System.getProperty("qlora4j.root", ".")).toAbsolutePath().normalize();
    }

    /** @throws UserException if they are not here */
    static GpuTests find() {
        Path root = root();
        Path bundled = root.resolve("tests");
        List<Path> classPath = new ArrayList<>();
        if (Files.isDirectory(bundled)) {
            try (Stream<Path> jars = Files.list(bundled)) {
                jars.filter(j -> j.toString().endsWith(".jar")).sorted().forEach(classPath::add);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        } else {
            classPath.add(root.resolve("samples/target/tests").resolve(CONSOLE));
            MODULES.forEach(m -> classPath.add(root.resolve(m).resolve("target/test-classes")));
        }
        for (Path entry : classPath) {
            if (!Files.exists(entry)) {
                throw new UserException("the tests for a GPU are not built: " + entry
                        + " is missing; run ./mvnw -q package -DskipTests");
            }
        }
        return new GpuTests(root, classPath);
    }

    List<Path> classPath() {
        return classPath;
    }

    /**
     * Runs test classes; failures and the last lines are printed.
     *
     * @param prefix a program to run them under, with its options
     */
    Outcome run(List<String> classes, List<String> prefix, PrintStream out) {
        List<String> command = new ArrayList<>(prefix);
        command.addAll(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx2g",
                "--add-modules",
                "jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-Dqlora4j.gpu=true",
                "-Dqlora4j.root=" + root,
                "-Dqlora4j.golden=" + root.resolve("golden")));
        Optional.ofNullable(System.getProperty("qlora4j.natives"))
                .ifPresent(folder -> command.add("-Dqlora4j.natives=" + folder));
        StringBuilder path = new StringBuilder(System.getProperty("java.class.path"));
        classPath.forEach(entry -> path.append(File.pathSeparator).append(entry));
        command.addAll(List.of("-cp", path.toString(), "org.junit.platform.console.ConsoleLauncher", "execute"));
        command.addAll(List.of("--disable-banner", "--disable-ansi-colors", "--details=summary"));
        classes.forEach(c -> command.add("--select-class=" + c));
        long start = System.nanoTime();
        int[] counts = new int[3];
        int exit;
        try {
            Process process =
                    new ProcessBuilder(command).redirectErrorStream(true).start();
            try (BufferedReader lines = process.inputReader()) {
                lines.lines().forEach(line -> read(line, counts, out));
            }
            exit = process.waitFor();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot run " + command.getFirst() + ": " + e.getMessage(), e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new UserException("interrupted while the tests ran");
        }
        return new Outcome(exit, counts[0], counts[1], counts[2], (System.nanoTime() - start) / 1e9);
    }

    private static void read(String line, int[] counts, PrintStream out) {
        Matcher m = COUNT.matcher(line);
        if (m.find()) {
            int n = Integer.parseInt(m.group(1));
            switch (m.group(2)) {
                case "successful" -> counts[0] = n;
                case "failed" -> counts[1] = n;
                case "skipped", "aborted" -> counts[2] += n;
                default -> {}
            }
        } else if (!line.isBlank()
                && !line.startsWith("[")
                && !line.startsWith("WARNING:")
                && !line.startsWith("Test run finished")) {
            out.println("  " + line);
        }
    }
}
