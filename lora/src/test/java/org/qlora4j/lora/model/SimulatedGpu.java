package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.qlora4j.nf4.device.cuda.CudaDevice;

/** The GPU that the tests of module nf4 build ({@code CudaSimulator}), or with -Pgpu a real one. */
final class SimulatedGpu {
    private SimulatedGpu() {}

    /** Opens it; skips the test where it was not built, but not in CI. */
    static CudaDevice open() {
        if (Boolean.getBoolean("qlora4j.gpu")) {
            return new CudaDevice(0);
        }
        try {
            Path built = Path.of(System.getProperty("qlora4j.root"), "nf4/target/cuda-simulator/current");
            boolean there = Files.exists(built);
            if (System.getenv("CI") == null) {
                assumeTrue(there, "there is no simulated GPU: it is built with g++ by the tests of module nf4");
            }
            assertTrue(there, built.toString());
            System.setProperty("qlora4j.natives", Files.readString(built));
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
        return new CudaDevice(0);
    }
}
