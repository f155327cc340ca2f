package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.nf4.device.cuda.TestProcess.Ended;

/**
 * No barrier of the attention kernels and no wait for copies is there for nothing: without it, results are wrong or the
 * process ends. See {@code attention_test.cpp}.
 */
class AttentionShimTest {
    /** Forward, both halves of backward and decoding: barriers and waits as of the time of writing. */
    private static final int FEWEST = 14;

    @TempDir
    Path folder;

    @Test
    void everyMissingBarrierAndWaitShows() {
        HostCompiler.require();
        Path sources = HostCompiler.root().resolve(HostCompiler.SOURCES);
        String program = folder.resolve("attention_test").toString();
        List<String> compile = new ArrayList<>(List.of("g++", "-Werror"));
        compile.addAll(HostCompiler.FLAGS);
        compile.addAll(
                List.of("-I", HostCompiler.root().resolve(HostCompiler.KERNELS).toString()));
        compile.addAll(List.of(
                "-I",
                sources.toString(),
                sources.resolve("test/attention_test.cpp").toString()));
        compile.addAll(List.of(sources.resolve("shim.cpp").toString(), "-o", program));
        assertEquals(new Ended(0, ""), HostCompiler.run(compile));
        int mistakes = 0;
        for (String name : HostCompiler.run(List.of(program)).output().lines().toList()) {
            Ended end = HostCompiler.run(List.of(program, name));
            if (!name.contains("@") && !name.contains("~")) {
                assertEquals(new Ended(0, "right result\n"), end, name);
            } else {
                mistakes++;
                boolean wrong = end.equals(new Ended(1, "wrong result\n"));
                boolean died = end.code() == 128 + 6 && end.output().contains("shim: ");
                assertTrue(wrong || died, "nobody misses " + name + ": " + end);
            }
        }
        assertTrue(mistakes >= FEWEST, "cases got lost, there are " + mistakes);
        System.out.println("attention: " + mistakes + " missing barriers and waits, all caught");
    }
}
