package org.qlora4j.nf4;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Map;
import org.junit.jupiter.api.Test;

class DevicesTest {
    @Test
    void aRankTakesTheGpuOfItsNumberOnItsMachine() {
        assertEquals(0, Devices.localRank(Map.<String, String>of()::get));
        assertEquals(3, Devices.localRank(Map.of("OMPI_COMM_WORLD_LOCAL_RANK", "3", "SLURM_LOCALID", "1")::get));
        assertEquals(1, Devices.localRank(Map.of("SLURM_LOCALID", "1")::get));
        assertEquals(0, Devices.localRank(Map.of("SLURM_LOCALID", "none")::get));
        assertEquals(3, Devices.gpuOfRank(4, 3));
        // a launcher that shows each rank its own GPU alone
        assertEquals(0, Devices.gpuOfRank(1, 3));
    }

    @Test
    void aGpuThatIsNamedStays() {
        assertEquals("cuda:2", Devices.choose("cuda:2").device());
    }
}
