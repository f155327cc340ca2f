package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** g++ and what it makes, as processes. */
final class HostCompiler {
    /** Kernels and what stands for a GPU, below the project's folder. */
    static final String KERNELS = "nf4/src/main/resources/org/qlora4j/nf4/device/cuda";

    static final String SOURCES = "nf4/src/test/native/cuda";

    /** No fused multiply-add: results are the same on every machine. */
    static final List<String> FLAGS =
            List.of("-std=c++17", "-O2", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-ffp-contract=off");

    private HostCompiler() {}

    /** The project's folder. */
    static Path root() {
        return Path.of(System.getProperty("qlora4j.root")).toAbsolutePath().normalize();
    }

    /** Skips the test where there is no g++; fails it in CI. */
    static void require() {
        boolean here = Arrays.stream(System.getenv("PATH").split(":"))
                .anyMatch(folder -> Files.isExecutable(Path.of(folder, "g++")));
        if (System.getenv("CI") == null) {
            assumeTrue(here, "the simulated GPU is built with g++, which is not here: apt-get install g++");
        }
    }

    /** Runs a command to its end. */
    static TestProcess.Ended run(List<String> command) {
        try {
            return end(new ProcessBuilder(command).redirectErrorStream(true).start());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Waits for the end of a process whose errors go to its output. */
    static TestProcess.Ended end(Process process) throws IOException {
        try {
            String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            if (!process.waitFor(10, TimeUnit.MINUTES)) {
                process.destroyForcibly();
                throw new AssertionError("still running after 10 minutes: " + output);
            }
            return new TestProcess.Ended(process.exitValue(), output);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new AssertionError(e);
        }
    }
}
