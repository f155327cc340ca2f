package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code mpirun -n 2 ./qlora sft --device cuda} on two simulated GPUs: gradients go from one to the other by NCCL. */
class NcclTest {
    private static final String THROUGH_HOST = "gradients go through the hosts' memory";

    @TempDir
    Path folder;

    private static Path simulator() throws IOException {
        Path built = Path.of(System.getProperty("qlora4j.root"), "nf4/target/cuda-simulator/current");
        boolean there = Files.exists(built);
        if (System.getenv("CI") == null) {
            assumeTrue(there, "there is no simulated GPU: it is built with g++ by the tests of module nf4");
        }
        assertTrue(there, built.toString());
        return Path.of(Files.readString(built));
    }

    private MpiRun sft(String output, int ranks, String... more) throws Exception {
        return sft(output, ranks, simulator(), more);
    }

    private MpiRun sft(String output, int ranks, Path natives, String... more) throws Exception {
        Path model = folder.resolve("model");
        Path rows = folder.resolve("rows.jsonl");
        if (!Files.exists(model)) {
            TinyModel.write(model);
            TinyModel.rows(rows);
        }
        List<String> words = new ArrayList<>(List.of("sft", "--model", model.toString()));
        words.addAll(List.of("--device", "cuda"));
        words.addAll(List.of("--dataset", rows.toString(), "--eval_strategy", "no", "--split_dataset_ratio", "0"));
        words.addAll(List.of("--output_dir", folder.resolve(output).toString(), "--add_version", "false"));
        words.addAll(List.of("--gradient_accumulation_steps", "3", "--max_steps", "2", "--learning_rate", "1e-2"));
        words.addAll(List.of(more));
        return run(output, ranks, words, natives);
    }

    private MpiRun run(String output, int ranks, List<String> words, Path natives) throws Exception {
        words.addAll(List.of("--natives", natives.toString()));
        Map<String, String> gpus = Map.of("SIM_DEVICES", "2", "NCCL_DEBUG", "INFO");
        MpiRun run = MpiRun.start(folder.resolve(output + "-log"), ranks, words, gpus);
        assertEquals(0, run.finish(), run.err());
        return run;
    }

    private String warnings(String output) throws IOException {
        return Files.readString(folder.resolve(output + "-log/stderr.txt"));
    }

    /** The simulated GPU's libraries but one. */
    private Path withoutNccl() throws IOException {
        Path natives = Files.createDirectory(folder.resolve("without-nccl"));
        try (Stream<Path> libraries = Files.list(simulator())) {
            for (Path library :
                    libraries.filter(f -> f.toString().contains(".so")).toList()) {
                if (!library.endsWith("libnccl.so.2")) {
                    Files.createSymbolicLink(natives.resolve(library.getFileName()), library);
                }
            }
        }
        return natives;
    }

    private byte[] adapter(String output) throws IOException {
        return Files.readAllBytes(folder.resolve(output + "/checkpoint-2/adapter_model.safetensors"));
    }

    @Test
    void gradientsGoFromGpuToGpuAndTheBitsAreThoseOfOne() throws Exception {
        MpiRun.require();
        sft("one", 0);
        MpiRun two = sft("two", 2);
        assertArrayEquals(adapter("one"), adapter("two"));
        for (int rank = 0; rank < 2; rank++) {
            assertTrue(two.err().contains("nccl: rank " + rank + " of 2 sent "), two.err());
        }
        assertFalse(warnings("two").contains(THROUGH_HOST), warnings("two"));
        sft("fast", 2, "--reduction", "fast");
        assertEquals(adapter("one").length, adapter("fast").length);
        sft("without", 2, withoutNccl());
        assertArrayEquals(adapter("one"), adapter("without"), "through the hosts' memory");
        String warning = warnings("without");
        assertTrue(warning.contains(THROUGH_HOST + ": rank 0: NCCL: cannot open libnccl.so.2"), warning);
        assertEquals(2, warning.split(THROUGH_HOST, -1).length, "said once: " + warning);
    }
}
