package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.nf4.device.AttentionShape;

/** How decoding splits its keys; what the kernels compute with it is in the contract of operations. */
class CudaAttentionTest {
    private static final int MULTIPROCESSORS = 132;

    private static AttentionShape shape(int heads, int kvHeads, int headDim, int window, int queries, int keys) {
        return new AttentionShape(
                heads, kvHeads, headDim, 1, window, 0, new int[] {0, queries, queries + 1}, new int[] {0, keys, keys + 1
                });
    }

    @ParameterizedTest
    @CsvSource({
        "40,8,128,0,1,1",
        "40,8,128,0,1,2048",
        "40,8,128,0,8,40000",
        "14,2,64,0,3,129",
        "8,4,256,1024,1,9000",
        "32,32,96,0,8,700",
        "1,1,1,1,1,5000",
        "64,1,128,0,8,3000"
    })
    void theSplitsHoldAllKeys(int heads, int kvHeads, int headDim, int window, int queries, int keys) {
        AttentionShape shape = shape(heads, kvHeads, headDim, window, queries, keys);
        assertTrue(CudaAttention.decodes(shape));
        CudaAttention.Splits splits = CudaAttention.splits(shape, MULTIPROCESSORS);
        int seen = window == 0 ? keys : Math.min(keys, window + queries - 1);
        assertTrue((long) splits.splits() * splits.keys() >= seen, splits + " for " + seen);
        assertTrue((splits.splits() - 1L) * splits.keys() < seen, splits + " has an empty split for " + seen);
        assertEquals(0, splits.keys() % AttentionKernels.of(headDim).decodeKeys(), splits.toString());
        assertTrue(splits.rowTiles() * AttentionKernels.DECODE_ROWS >= queries * (heads / kvHeads), splits.toString());
    }

    @Test
    void aLongCacheIsSplitOverTheCardAndAShortOneIsNot() {
        assertEquals(
                1,
                CudaAttention.splits(shape(40, 8, 128, 0, 1, 100), MULTIPROCESSORS)
                        .splits());
        // 16 blocks without splitting, 264 wanted
        CudaAttention.Splits splits = CudaAttention.splits(shape(40, 8, 128, 0, 1, 32768), MULTIPROCESSORS);
        assertEquals(16, splits.splits());
        assertEquals(2048, splits.keys());
    }

    @Test
    void manyQueriesAndTheWidestHeadsAreNotDecoded() {
        assertTrue(CudaAttention.decodes(shape(2, 1, 64, 0, 8, 1000)));
        assertFalse(CudaAttention.decodes(shape(2, 1, 64, 0, 9, 1000)));
        assertFalse(CudaAttention.decodes(shape(2, 1, 300, 0, 1, 1000)));
    }
}
