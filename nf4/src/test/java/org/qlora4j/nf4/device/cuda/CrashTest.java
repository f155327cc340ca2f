package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.qlora4j.nf4.device.cuda.TestProcess.Ended;

/** Wrong addresses do not pass unseen on the simulated GPU: the process ends, and without the mistake it does not. */
class CrashTest {
    @ParameterizedTest
    @EnumSource(CrashingProgram.Mistake.class)
    void theMistakeEndsTheProcess(CrashingProgram.Mistake mistake) {
        CudaSimulator.install();
        Ended right = TestProcess.run(CrashingProgram.class, mistake.name(), "false");
        assertEquals(0, right.code(), right.output());
        assertTrue(right.output().contains("ends"), right.output());
        Ended broken = TestProcess.run(CrashingProgram.class, mistake.name(), "true");
        assertTrue(broken.output().contains("begins"), broken.output());
        assertTrue(broken.output().contains("SIGSEGV"), broken.output());
        // the JVM's way to end without a core dump
        assertEquals(1, broken.code(), broken.output());
    }
}
