package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.qlora4j.nf4.device.cuda.CudaSimulator;
import org.qlora4j.nf4.device.cuda.TestProcess;

/**
 * Every {@code __syncthreads()} in the project's own kernels is needed, and the simulated GPU would tell if one were
 * missing: without it some operation's result changes, or the process ends.
 */
class BarrierTest {
    /** In the line of a barrier or the one before it, where its absence cannot show. */
    private static final List<String> CANNOT_SHOW = List.of(
            // for kernels that have used the shared memory themselves, which ShimTest's do
            "the caller may still read what it had there");

    @Test
    void everyBarrierIsNeeded() throws IOException {
        CudaSimulator.install();
        List<String> unseen = new ArrayList<>();
        int seen = 0;
        int next = 0;
        boolean ended = false;
        while (!ended) {
            TestProcess.Ended process = TestProcess.run(BarrierProgram.class, "" + next);
            List<String> lines = process.output().lines().toList();
            ended = lines.contains("ends");
            int without = next;
            for (int i = 0; i < lines.size(); i++) {
                if (!lines.get(i).startsWith("without ")) {
                    continue;
                }
                String[] words = lines.get(i).split(" ");
                next = Integer.parseInt(words[1]) + 1;
                if (i + 1 < lines.size() && lines.get(i + 1).equals("unseen")) {
                    unseen.add(words[2]);
                } else {
                    seen++;
                }
            }
            assertTrue(ended || next > without, process.output());
        }
        for (String barrier : unseen) {
            assertTrue(cannotShow(barrier), barrier + " can be left out and nothing changes");
        }
        assertTrue(seen >= 12, "barriers got lost: " + seen + " seen, unseen " + unseen);
        System.out.println(
                "barriers of kernels: " + seen + " of " + (seen + unseen.size()) + " show when they are missing");
    }

    private static boolean cannotShow(String barrier) throws IOException {
        String[] parts = barrier.split(":");
        int line = Integer.parseInt(parts[1]);
        List<String> source = Files.readAllLines(CudaSimulator.kernels().resolve(parts[0]));
        String text = source.get(line - 2) + source.get(line - 1);
        return CANNOT_SHOW.stream().anyMatch(text::contains);
    }
}
