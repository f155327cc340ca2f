package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.spi.ToolProvider;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The scripts {@code qlora} and {@code mvnw} where the default Java is too old. */
class LauncherTest {
    private static final Path ROOT = Path.of(System.getProperty("qlora4j.root"));

    @TempDir
    Path folder;

    private Path root;
    private Path home;
    private Path old;

    private record Output(int exit, String out, String err) {}

    /** A copy of the scripts, a home without a JDK, and a JDK 17 that cannot run anything. */
    @BeforeEach
    void prepare() throws IOException {
        root = Files.createDirectories(folder.resolve("qlora4j"));
        home = Files.createDirectories(folder.resolve("home"));
        Files.createDirectories(root.resolve(".mvn"));
        for (String script : List.of("qlora", "mvnw", ".mvn/find-jdk.sh")) {
            Files.copy(ROOT.resolve(script), root.resolve(script), StandardCopyOption.COPY_ATTRIBUTES);
        }
        old = jdk(folder.resolve("jdk-17"), "17.0.9");
    }

    private static Path jdk(Path at, String version) throws IOException {
        Files.createDirectories(at.resolve("bin"));
        for (String tool : List.of("java", "javac")) {
            executable(at.resolve("bin").resolve(tool), "echo too old >&2; exit 9");
        }
        Files.writeString(at.resolve("release"), "IMPLEMENTOR=\"nobody\"\nJAVA_VERSION=\"" + version + "\"\n");
        return at;
    }

    private static void executable(Path file, String text) throws IOException {
        Files.writeString(file, "#!/bin/sh\n" + text + "\n");
        assertTrue(file.toFile().setExecutable(true));
    }

    /** The JDK of this test, beside the old one. */
    private void putNewJdkAside() throws IOException {
        Path candidates = Files.createDirectories(home.resolve(".sdkman/candidates/java"));
        Files.createSymbolicLink(candidates.resolve("this"), Path.of(System.getProperty("java.home")));
    }

    private Output run(String... command) throws Exception {
        Path out = folder.resolve("out.txt");
        Path err = folder.resolve("err.txt");
        ProcessBuilder builder = new ProcessBuilder(command)
                .directory(folder.toFile())
                .redirectOutput(out.toFile())
                .redirectError(err.toFile());
        Map<String, String> environment = builder.environment();
        environment.put("HOME", home.toString());
        environment.put("QLORA4J_CACHE", folder.resolve("cache").toString());
        environment.put("JAVA_HOME", old.toString());
        environment.put("PATH", old.resolve("bin") + File.pathSeparator + folder.resolve("tools") + ":/usr/bin:/bin");
        Process process = builder.start();
        assertTrue(process.waitFor(60, TimeUnit.SECONDS), "still running");
        return new Output(process.exitValue(), Files.readString(out), Files.readString(err));
    }

    /** What a build leaves, from this test's class path. */
    private void build() throws IOException {
        Path lib = Files.createDirectories(root.resolve("samples/target/lib"));
        int number = 0;
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
            Path path = Path.of(entry);
            if (Files.isDirectory(path)) {
                jar(path, lib.resolve("classes-" + number++ + ".jar"));
            } else if (entry.endsWith(".jar") && Files.isRegularFile(path)) {
                Files.createSymbolicLink(lib.resolve(number++ + ".jar"), path);
            }
        }
        Files.move(lib.resolve("classes-0.jar"), root.resolve("samples/target/samples-0.1.0-SNAPSHOT.jar"));
    }

    private static void jar(Path classes, Path jar) {
        int exit = ToolProvider.findFirst("jar")
                .orElseThrow()
                .run(
                        System.out,
                        System.err,
                        "--create",
                        "--no-compress",
                        "--file",
                        jar.toString(),
                        "-C",
                        classes.toString(),
                        ".");
        assertEquals(0, exit);
    }

    @Test
    void qloraStartsOnANewerJavaThatLiesBeside() throws Exception {
        putNewJdkAside();
        build();
        Output output = run(root.resolve("qlora").toString(), "sft", "--help");
        assertEquals(0, output.exit, output.err);
        assertTrue(output.out.contains("--lora_rank"), output.out);
    }

    /** The archive of classes is made once, is used, and a damaged one costs its time only. */
    @Test
    void classDataIsSharedByLaterStarts() throws Exception {
        putNewJdkAside();
        build();
        String qlora = root.resolve("qlora").toString();
        Output first = run(qlora, "sft", "--help");
        Path archive;
        try (Stream<Path> files = Files.list(folder.resolve("cache/classes"))) {
            List<Path> all = files.toList();
            assertEquals(1, all.size(), "no partial file is left: " + all);
            archive = all.getFirst();
        }
        assertTrue(archive.toString().endsWith(".jsa"), archive.toString());
        FileTime made = Files.getLastModifiedTime(archive);
        Output logged = run(
                "env",
                "QLORA_JAVA_OPTS=-Xmx1g -Xlog:class+load:file=" + folder.resolve("classes.log"),
                qlora,
                "sft",
                "--help");
        assertEquals(first, logged);
        assertEquals(made, Files.getLastModifiedTime(archive));
        String main = Files.readString(folder.resolve("classes.log"))
                .lines()
                .filter(line -> line.contains("org.qlora4j.samples.Main source"))
                .findFirst()
                .orElseThrow();
        assertTrue(main.contains("shared objects file (top)"), main);
        byte[] bytes = Files.readAllBytes(archive);
        for (int length : new int[] {0, 4096, bytes.length / 2}) {
            Files.write(archive, Arrays.copyOf(bytes, length));
            assertEquals(first, run(qlora, "sft", "--help"), length + " bytes of it");
        }
    }

    @Test
    void mvnwGivesMavenANewerJdkThatLiesBeside() throws Exception {
        putNewJdkAside();
        Files.createDirectories(folder.resolve("tools"));
        executable(folder.resolve("tools/mvn"), "echo \"$JAVA_HOME $*\"");
        Output output = run(root.resolve("mvnw").toString(), "-B", "verify");
        assertEquals(0, output.exit, output.err);
        String[] words = output.out.strip().split(" ", 2);
        assertTrue(Files.readString(Path.of(words[0], "release")).contains("JAVA_VERSION=\"2"), words[0]);
        assertTrue(words[1].startsWith("-f " + root.resolve("pom.xml") + " "), words[1]);
        assertTrue(words[1].endsWith(" -B verify"), words[1]);
    }

    @Test
    void withoutANewerOneASentenceSaysWhichWereSeen() throws Exception {
        Output output =
                run("sh", "-c", ". " + root.resolve(".mvn/find-jdk.sh") + "; find_jdk 99 'building and testing' javac");
        assertEquals(1, output.exit);
        assertEquals("", output.out);
        assertTrue(
                output.err.matches(
                        "building and testing needs JDK 99 or newer; seen: 17( \\d+)*\\. Install one or set JAVA_HOME\\.\\R"),
                output.err);
    }

    @Test
    void withoutABuildQloraBuilds() throws Exception {
        putNewJdkAside();
        Files.createDirectories(folder.resolve("tools"));
        executable(folder.resolve("tools/mvn"), "echo \"$*\" >&2; exit 1");
        Output output = run(root.resolve("qlora").toString(), "doctor");
        assertEquals(2, output.exit);
        List<String> lines = output.err.lines().toList();
        assertEquals(2, lines.size(), output.err);
        assertEquals("building qlora4j (once)", lines.getFirst());
        assertTrue(lines.get(1).startsWith("-f " + root.resolve("pom.xml") + " "), output.err);
        assertTrue(lines.get(1).endsWith(" -B -q package -DskipTests -Dspotless.check.skip=true"), output.err);
    }

    /** All kernels have a scalar twin: without the Vector API module the device says so and computes the same. */
    @Test
    void withoutTheVectorModuleTheScalarLoopsRun() throws Exception {
        Path model = TinyModel.write(folder.resolve("model"));
        Path rows = TinyModel.rows(folder.resolve("rows.jsonl"));
        double[] vector = losses(model, rows, "vector loops", "--add-modules", "jdk.incubator.vector");
        double[] scalar = losses(model, rows, "scalar loops");
        assertEquals(8, scalar.length);
        for (int i = 0; i < scalar.length; i++) {
            assertEquals(vector[i], scalar[i], 1e-5 * vector[i], "row " + i);
        }
    }

    private double[] losses(Path model, Path rows, String loops, String... java) throws Exception {
        Path result = folder.resolve("result.jsonl");
        List<String> command = Stream.of(
                        Stream.of(
                                Path.of(System.getProperty("java.home"), "bin", "java")
                                        .toString(),
                                "-Xmx512m"),
                        Stream.of(java),
                        Stream.of("--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path")),
                        Stream.of("org.qlora4j.samples.Main", "eval", "--model", model.toString(), "--val_dataset"),
                        Stream.of(rows.toString(), "--result_path", result.toString(), "--threads", "1"))
                .flatMap(words -> words)
                .toList();
        Process process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(folder.resolve("out.txt").toFile())
                .start();
        assertTrue(process.waitFor(60, TimeUnit.SECONDS), "still running");
        String out = Files.readString(folder.resolve("out.txt"));
        assertEquals(0, process.exitValue(), out);
        assertTrue(out.contains(loops), out);
        return Files.readAllLines(result).stream()
                .mapToDouble(line -> Double.parseDouble(line.replaceAll(".*\"loss\":([0-9.E-]+).*", "$1")))
                .toArray();
    }
}
