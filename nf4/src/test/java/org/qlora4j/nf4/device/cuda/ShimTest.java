package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.nf4.device.cuda.TestProcess.Ended;

/**
 * The threads that kernels run on in tests find mistakes: {@code shim_test.cpp} has kernels that are right, and each of
 * them with one mistake, which must show in the result or end the process with a reason.
 */
class ShimTest {
    /** What a process says that ends over the mistake; all other mistakes give a wrong result. */
    private static final Map<String, String> ENDS = Map.of(
            "absent_lanes", "deadlock: every thread waits for one that has ended",
            "divergent_barrier", "__syncthreads() waits for threads that have ended",
            "ended_before_barrier", "__syncthreads() waits for threads that have ended",
            "lane_not_in_mask", "a lane is not in its own mask",
            "mixed_warp_functions", "lanes of a warp are in different functions",
            "two_barriers", "__syncthreads() in different lines");

    /** Reaches the page behind the launch's shared memory. */
    private static final String SEGMENTATION_FAULT = "too_little_shared_memory";

    @TempDir
    Path folder;

    @Test
    void everyMistakeIsCaughtAndNothingElse() {
        HostCompiler.require();
        Path root = HostCompiler.root();
        Path sources = root.resolve(HostCompiler.SOURCES);
        String program = folder.resolve("shim_test").toString();
        List<String> compile = new ArrayList<>(List.of("g++", "-Werror"));
        compile.addAll(HostCompiler.FLAGS);
        compile.addAll(List.of("-I", root.resolve(HostCompiler.KERNELS).toString(), "-I", sources.toString()));
        compile.addAll(List.of(sources.resolve("test/shim_test.cpp").toString()));
        compile.addAll(List.of(sources.resolve("shim.cpp").toString(), "-o", program));
        assertEquals(new Ended(0, ""), HostCompiler.run(compile));
        List<String> cases = HostCompiler.run(List.of(program)).output().lines().toList();
        for (String name : cases) {
            assertEquals(new Ended(0, "right result\n"), HostCompiler.run(List.of(program, name, "right")), name);
            Ended broken = HostCompiler.run(List.of(program, name, "broken"));
            String what = name + " with its mistake: " + broken;
            if (name.equals(SEGMENTATION_FAULT)) {
                assertEquals(128 + 11, broken.code(), what);
            } else if (ENDS.containsKey(name)) {
                assertEquals(128 + 6, broken.code(), what);
                assertTrue(broken.output().contains("shim: " + ENDS.get(name)), what);
            } else {
                assertEquals(new Ended(1, "wrong result\n"), broken, what);
            }
        }
        assertTrue(cases.size() >= 25, "cases got lost: " + cases);
        System.out.println("shim: " + cases.size() + " mistakes in kernels, all caught");
    }
}
