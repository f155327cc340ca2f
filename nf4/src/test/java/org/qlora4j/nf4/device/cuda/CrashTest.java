package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.nf4.device.cuda.HostCompiler.Ended;

/** Wrong addresses do not pass unseen on the simulated GPU: the process ends, and without the mistake it does not. */
class CrashTest {
    @TempDir
    Path folder;

    @ParameterizedTest
    @EnumSource(CrashingProgram.Mistake.class)
    void theMistakeEndsTheProcess(CrashingProgram.Mistake mistake) {
        CudaSimulator.install();
        Ended right = run(mistake, false);
        assertEquals(0, right.code(), right.output());
        assertTrue(right.output().contains("ends"), right.output());
        Ended broken = run(mistake, true);
        assertTrue(broken.output().contains("begins"), broken.output());
        assertTrue(broken.output().contains("SIGSEGV"), broken.output());
        // the JVM's way to end without a core dump
        assertEquals(1, broken.code(), broken.output());
    }

    private Ended run(CrashingProgram.Mistake mistake, boolean made) {
        List<String> command = new ArrayList<>(
                List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
        command.addAll(List.of("-XX:-CreateCoredumpOnCrash", "-XX:ErrorFile=" + folder.resolve("hs_err.txt")));
        command.addAll(List.of("-Xmx256m", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"));
        command.add("-Dqlora4j.root=" + System.getProperty("qlora4j.root"));
        command.addAll(List.of("-cp", classPath(), CrashingProgram.class.getName(), mistake.name(), "" + made));
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
