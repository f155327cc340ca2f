package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is for a GPU, on the simulated one that module nf4's tests build: it runs; its times mean nothing. */
class GpuTest {
    private static String natives;

    @BeforeAll
    static void find() throws IOException {
        Path built = Path.of(System.getProperty("qlora4j.root"), "nf4/target/cuda-simulator/current");
        if (System.getenv("CI") == null) {
            assumeTrue(Files.exists(built), "there is no simulated GPU: it is built with g++ by the tests of nf4");
        }
        natives = Files.readString(built);
    }

    @Test
    void kernelsAreTimed() throws IOException {
        Cli.Output output =
                Cli.forked("bench", "--device", "cuda:0", "--size", "tiny", "--json", "true", "--natives", natives);
        assertEquals(0, output.exit(), output.err());
        String[] lines = output.out().split("\\R");
        JsonNode json = new ObjectMapper().readTree(lines[lines.length - 1]);
        // 4 multiprocessors at 1 GHz with 4096 operations a clock; 256 bits at both edges of 1 GHz
        assertEquals(16.384, json.at("/card/tflops_bf16").asDouble(), 1e-9);
        assertEquals(64, json.at("/card/gb_per_second").asDouble(), 1e-9);
        assertEquals(23, json.get("kernels").size());
        for (JsonNode kernel : json.get("kernels")) {
            double floor = kernel.get("floor_seconds").asDouble();
            assertTrue(floor > 0 && kernel.get("seconds").asDouble() > 0, kernel.toString());
        }
    }

    @Test
    void aCheckWithoutTestsTrainsAndAnswers(@TempDir Path folder) throws IOException {
        Path file = folder.resolve("gpu-check.json");
        Cli.Output output = Cli.forked(
                "gpu-check",
                "--size",
                "tiny",
                "--steps",
                "1",
                "--tests",
                "false",
                "--result_path",
                file.toString(),
                "--natives",
                natives);
        assertEquals(0, output.exit(), output.err());
        JsonNode json = new ObjectMapper().readTree(file.toFile());
        assertEquals(5, json.at("/environment/libraries").size());
        assertEquals(23, json.at("/kernels/kernels").size());
        for (String run : new String[] {"with_checkpointing", "without_checkpointing"}) {
            JsonNode training = json.at("/training/" + run);
            assertEquals(Math.log(512), training.get("loss").asDouble(), 0.1);
            assertTrue(training.get("floor_seconds").asDouble() > 0);
            assertTrue(training.at("/memory/device_peak/measured").asLong() > 0);
        }
        assertTrue(json.at("/training/decode/tokens_per_second").asDouble() > 0);
    }

    @Test
    void testsRunInAProcessOfTheirOwn() {
        String before = System.getProperty("qlora4j.natives");
        System.setProperty("qlora4j.natives", natives);
        try {
            GpuTests tests = GpuTests.find();
            GpuTests.Outcome outcome =
                    tests.run(List.of("org.qlora4j.nf4.device.cuda.BitsAndBytesBlocksTest"), List.of(), System.out);
            assertTrue(outcome.passed() && outcome.successful() > 5, outcome.toString());
            GpuTests.Outcome nothing = tests.run(List.of("org.qlora4j.NoTest"), List.of(), System.out);
            assertFalse(nothing.passed(), nothing.toString());
        } finally {
            if (before == null) {
                System.clearProperty("qlora4j.natives");
            } else {
                System.setProperty("qlora4j.natives", before);
            }
        }
    }

    @Test
    void aCheckNeedsAGpu() {
        Cli.Output output = Cli.qlora("gpu-check", "--device", "cpu");
        assertEquals(2, output.exit());
        assertEquals(
                "qlora: gpu-check needs a GPU, --device cuda:0 and so on; got 'cpu'",
                output.err().strip());
    }
}
