package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.qlora4j.nf4.device.ShapeException;

class AttentionKernelsTest {
    /** What a block may have on compute capability 8.6 and 8.9, the least of all we compile for. */
    private static final int SHARED_LIMIT = 99 << 10;

    @ParameterizedTest
    @EnumSource
    void sharedMemoryFitsTheSmallestCard(AttentionKernels kernels) {
        assertTrue(kernels.forwardShared() <= SHARED_LIMIT, "forward " + kernels.forwardShared());
        assertTrue(kernels.backwardKeysShared() <= SHARED_LIMIT, "keys " + kernels.backwardKeysShared());
        assertTrue(kernels.backwardQueriesShared() <= SHARED_LIMIT, "queries " + kernels.backwardQueriesShared());
        assertTrue(!kernels.canDecode() || kernels.decodeShared() <= SHARED_LIMIT, "decode " + kernels.decodeShared());
    }

    @Test
    void theNarrowestKernelThatHoldsAHeadIsTaken() {
        assertEquals(AttentionKernels.UP_TO_64, AttentionKernels.of(1));
        assertEquals(AttentionKernels.UP_TO_64, AttentionKernels.of(64));
        assertEquals(AttentionKernels.UP_TO_128, AttentionKernels.of(96));
        assertEquals(AttentionKernels.UP_TO_256, AttentionKernels.of(129));
        assertEquals(AttentionKernels.UP_TO_512, AttentionKernels.of(512));
        String message = assertThrows(ShapeException.class, () -> AttentionKernels.of(513))
                .getMessage();
        assertEquals("attention on a GPU takes head sizes up to 512; got 513: use device cpu", message);
    }

    /** Sequence s has the tiles from offset / rows + s on: as many as it needs, or one more. */
    @Test
    void everySequenceHasItsTiles() {
        int[] offsets = {0, 1, 64, 65, 193, 320, 448};
        int sequences = offsets.length - 1;
        for (int s = 0; s < sequences; s++) {
            int tiles = (offsets[s + 1] / 64 + s + 1) - (offsets[s] / 64 + s);
            int needed = (offsets[s + 1] - offsets[s] + 63) / 64;
            assertTrue(tiles == needed || tiles == needed + 1, "sequence " + s + ": " + tiles + " for " + needed);
        }
        assertEquals(448 / 64 + sequences, AttentionKernels.UP_TO_64.forwardBlocks(448, sequences));
        assertEquals((448 + sequences + 3) / 4, AttentionKernels.UP_TO_512.forwardBlocks(448, sequences));
    }
}
