package org.qlora4j.nf4.device.cuda;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import org.qlora4j.bindings.CudaDriver;

/** A test's program in a process of its own, which may end in any way. */
public final class TestProcess {
    /** What a process said, errors included, and how it ended; 128 and more for a signal. */
    public record Ended(int code, String output) {}

    private TestProcess() {}

    /** Runs the main method of a class of the tests. */
    public static Ended run(Class<?> program, String... arguments) {
        List<String> command = new ArrayList<>(
                List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
        command.addAll(List.of("-XX:-CreateCoredumpOnCrash", "-XX:ErrorFile=/dev/null", "-Xmx512m"));
        command.addAll(List.of("--add-modules", "jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED"));
        command.add("-Dqlora4j.root=" + System.getProperty("qlora4j.root"));
        command.addAll(List.of("-cp", classPath(), program.getName()));
        command.addAll(List.of(arguments));
        return HostCompiler.run(command);
    }

    /** Where this test's classes come from, modules or not. */
    private static String classPath() {
        Set<String> entries = new LinkedHashSet<>();
        for (Class<?> type : List.of(Launcher.class, CudaDriver.class, org.junit.jupiter.api.Assertions.class)) {
            Path place = Path.of(java.net.URI.create(
                    type.getProtectionDomain().getCodeSource().getLocation().toString()));
            entries.add(place.toString());
            entries.add(place.resolveSibling("test-classes").toString());
        }
        entries.addAll(List.of(System.getProperty("java.class.path").split(":")));
        return String.join(":", entries);
    }
}
