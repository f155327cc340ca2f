package org.qlora4j.samples;

import java.io.BufferedOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.nf4.file.AtomicFolder;

/**
 * {@code qlora bundle}: an archive for a GPU machine without network, Maven or JDK, on which {@code run-gpu-check} does
 * what {@code qlora gpu-check} does. In it are a Java runtime, the project, libbitsandbytes for CUDA 13, the tests for
 * a GPU and their golden values; not in it what only the CPU device, tokenizers and data files need.
 */
final class Bundle {
    private static final String NAME = "qlora4j-gpu";
    private static final String BITSANDBYTES = "libbitsandbytes_cuda130.so";

    private static final String MODULES =
            "java.base,java.logging,java.management,java.net.http,java.xml,jdk.incubator.vector,jdk.management,jdk.unsupported";

    /** How the libraries' names start that a GPU check does not load. */
    private static final List<String> LEFT_OUT = List.of(
            "api-",
            "commons-",
            "gson",
            "hardwood",
            "jmh",
            "jna",
            "jopt",
            "slf4j",
            "snappy",
            "tokenizers",
            "jackson-dataformat");

    private static final List<String> GOLDEN = List.of("models", "quantize", "optim");

    private static final String SCRIPT = """
            #!/bin/sh
            # Everything that only a GPU can show: tests, the speed of each kernel, training, answering; --help lists options.
            # Needs NVIDIA's driver, and CUDA's runtime, cuBLAS and NVRTC: from Python's packages (PyTorch brings them), a
            # CUDA toolkit, or a folder named by QLORA4J_NATIVES.
            here=$(cd "$(dirname "$0")" && pwd)
            exec "$here/runtime/bin/java" -Xmx2g -XX:+UseSerialGC --add-modules jdk.incubator.vector \\
                --enable-native-access=ALL-UNNAMED -Dqlora4j.root="$here" -Dqlora4j.natives="$here/natives" \\
                -cp "$here/lib/*" org.qlora4j.samples.Main gpu-check "$@"
            """;

    private Bundle() {}

    static int run(Arguments a) {
        Path jlink = Path.of(System.getProperty("java.home"), "bin", "jlink");
        if (!Files.isExecutable(jlink)) {
            throw new UserException("bundle needs a JDK, whose jlink makes the runtime: there is no " + jlink);
        }
        for (String program : List.of("tar", "xz")) {
            if (!isOnPath(program)) {
                throw new UserException(
                        "bundle needs the programs tar and xz; '" + program + "' is not on PATH (package xz-utils)");
            }
        }
        GpuTests tests = GpuTests.find();
        Path archive = Path.of(a.text("outfile")).toAbsolutePath();
        Session.nameNatives(a);
        Path natives = NativePackages.ensure(NativePackage.BITSANDBYTES, System.out::println);
        try {
            Path work = Files.createTempDirectory("qlora4j-bundle");
            try {
                Path folder = Files.createDirectory(work.resolve(NAME));
                start(List.of(
                        jlink.toString(),
                        "--add-modules",
                        MODULES,
                        "--strip-debug",
                        "--no-header-files",
                        "--no-man-pages",
                        "--output",
                        folder.resolve("runtime").toString()));
                libraries(Files.createDirectory(folder.resolve("lib")));
                copy(natives.resolve(BITSANDBYTES), Files.createDirectory(folder.resolve("natives")));
                tests(tests, Files.createDirectory(folder.resolve("tests")));
                for (String part : GOLDEN) {
                    copyTree(
                            GpuTests.root().resolve("golden").resolve(part),
                            folder.resolve("golden").resolve(part));
                }
                Path script = Files.writeString(folder.resolve("run-gpu-check"), SCRIPT);
                Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
                start(List.of(
                        "tar",
                        "--use-compress-program=xz -9 -T0",
                        "--owner=0",
                        "--group=0",
                        "--sort=name",
                        "-C",
                        work.toString(),
                        "-cf",
                        archive.toString(),
                        NAME));
            } finally {
                AtomicFolder.deleteTree(work);
            }
            System.out.printf(
                    Locale.ROOT,
                    "%s: %.1f MB; on the GPU machine: tar -xf %s && %s/run-gpu-check%n",
                    archive,
                    Files.size(archive) / 1e6,
                    archive.getFileName(),
                    NAME);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot make the bundle: " + e, e);
        }
        return 0;
    }

    private static boolean isOnPath(String program) {
        return Stream.of(Objects.requireNonNullElse(System.getenv("PATH"), "").split(File.pathSeparator))
                .anyMatch(folder -> Files.isExecutable(Path.of(folder, program)));
    }

    /** What qlora was started with. */
    private static void libraries(Path to) throws IOException {
        List<Path> jars = Stream.of(System.getProperty("java.class.path").split(File.pathSeparator))
                .map(Path::of)
                .filter(jar -> jar.toString().endsWith(".jar"))
                .filter(jar -> LEFT_OUT.stream()
                        .noneMatch(name -> jar.getFileName().toString().startsWith(name)))
                .toList();
        if (jars.isEmpty()) {
            throw new UserException("bundle packs the jars it was started from, by ./qlora; there are none");
        }
        for (Path jar : jars) {
            copy(jar, to);
        }
    }

    /** Folders of classes become jars. */
    private static void tests(GpuTests tests, Path to) throws IOException {
        int number = 0;
        for (Path entry : tests.classPath()) {
            if (Files.isDirectory(entry)) {
                jar(entry, to.resolve("tests-" + number++ + ".jar"));
            } else {
                copy(entry, to);
            }
        }
    }

    private static void jar(Path classes, Path jar) throws IOException {
        try (ZipOutputStream zip = new ZipOutputStream(new BufferedOutputStream(Files.newOutputStream(jar)));
                Stream<Path> files = Files.walk(classes)) {
            // xz does it better
            zip.setLevel(0);
            for (Path file : files.filter(Files::isRegularFile).sorted().toList()) {
                zip.putNextEntry(new ZipEntry(classes.relativize(file).toString()));
                Files.copy(file, zip);
                zip.closeEntry();
            }
        }
    }

    private static void copy(Path file, Path folder) throws IOException {
        Files.copy(file, folder.resolve(file.getFileName()), StandardCopyOption.REPLACE_EXISTING);
    }

    private static void copyTree(Path from, Path to) throws IOException {
        try (Stream<Path> files = Files.walk(from)) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                Path copy = to.resolve(from.relativize(file).toString());
                Files.createDirectories(Objects.requireNonNull(copy.getParent()));
                Files.copy(file, copy);
            }
        }
    }

    private static void start(List<String> command) throws IOException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        try {
            String output =
                    new String(process.getInputStream().readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
            int code = process.waitFor();
            if (code != 0) {
                throw new UserException(command.getFirst() + " ended with code " + code + ": " + output.strip());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new UserException("interrupted while " + command.getFirst() + " ran");
        }
    }
}
