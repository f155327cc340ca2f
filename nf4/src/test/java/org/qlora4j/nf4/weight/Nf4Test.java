package org.qlora4j.nf4.weight;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class Nf4Test {
    private static final int SEED = 7;

    private record Quantized(byte[] packed, float[] absmax) {
        float[] values(QuantType type, int blockSize, int n) {
            float[] out = new float[n];
            BlockQuantizer.dequantize(type, blockSize, packed, absmax, 0, n, out, 0);
            return out;
        }
    }

    private static Quantized quantize(QuantType type, int blockSize, float[] x) {
        Quantized q = new Quantized(
                new byte[(int) BlockQuantizer.packedBytes(x.length)],
                new float[(int) BlockQuantizer.blocks(x.length, blockSize)]);
        BlockQuantizer.quantize(type, blockSize, x, 0, x.length, q.packed, 0, q.absmax, 0);
        return q;
    }

    private static float[] normal(int n) {
        Random random = new Random(SEED);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) (random.nextGaussian() * 0.02);
        }
        return x;
    }

    @ParameterizedTest
    @ValueSource(ints = {32, 64, 128, 256, 512, 1024, 2048, 4096})
    void quantizingWhatWasDequantizedChangesNothing(int blockSize) {
        float[] x = normal(2 * blockSize + blockSize / 2 + 1);
        for (QuantType type : QuantType.values()) {
            Quantized once = quantize(type, blockSize, x);
            float[] values = once.values(type, blockSize, x.length);
            Quantized twice = quantize(type, blockSize, values);
            assertArrayEquals(once.absmax, twice.absmax, () -> type + ", seed " + SEED);
            // fp4's -0.0 is quantized to its other zero
            assertArrayEquals(
                    values, twice.values(type, blockSize, x.length), Float.MIN_VALUE, () -> type + ", seed " + SEED);
        }
    }

    @ParameterizedTest
    @EnumSource(QuantType.class)
    void everyValueTakesTheNearestLevelAndATieTheLowerOne(QuantType type) {
        float[] levels = type.codebook().values();
        Arrays.sort(levels);
        for (int i = 0; i + 1 < levels.length; i++) {
            float midpoint = (levels[i] + levels[i + 1]) / 2f;
            assertEquals(levels[i], level(type, midpoint), "at " + midpoint);
            assertEquals(levels[i], level(type, Math.nextDown(midpoint)), "below " + midpoint);
            assertEquals(levels[i + 1], level(type, Math.nextUp(midpoint)), "above " + midpoint);
        }
        for (float v = -1.25f; v < 1.25f; v += 0.00037f) {
            float clamped = Math.clamp(v, -1f, 1f);
            float found = level(type, v);
            for (float other : levels) {
                assertTrue(Math.abs(found - clamped) <= Math.abs(other - clamped) + 1e-7f, found + " for " + v);
            }
        }
    }

    private static float level(QuantType type, float v) {
        return type.codebook().values()[type.codebook().code(v)];
    }

    @Test
    void theFirstElementIsInTheHighNibble() {
        float[] x = new float[32];
        x[0] = 2f;
        x[1] = -2f;
        Quantized q = quantize(QuantType.NF4, 32, x);
        assertEquals((byte) 0xf0, q.packed[0]);
        assertEquals((byte) 0x77, q.packed[1]);
        assertEquals(2f, q.absmax[0]);
    }

    @Test
    void aBlockOfZerosHasScaleZeroAndAShortOneTheSmallest() {
        Quantized q = quantize(QuantType.NF4, 64, new float[65]);
        for (byte b : q.packed) {
            assertEquals((byte) 0x77, b);
        }
        assertArrayEquals(new float[] {0f, 1e-38f}, q.absmax);
        assertArrayEquals(new float[65], q.values(QuantType.NF4, 64, 65));
    }

    @Test
    void aShortLastBlockDividesWhereFullBlocksMultiply() {
        // the two differ only near a midpoint: such values are found by trying
        Random random = new Random(SEED);
        float[] midpoints = midpoints(QuantType.NF4);
        int different = 0;
        for (int i = 0; i < 200_000; i++) {
            float max = 1f + random.nextFloat();
            float v = midpoints[random.nextInt(midpoints.length)] * max;
            float multiplied = v * (1f / max);
            float divided = v / max;
            if (QuantType.NF4.codebook().code(multiplied)
                    == QuantType.NF4.codebook().code(divided)) {
                continue;
            }
            different++;
            float[] full = new float[32];
            full[0] = max;
            full[1] = v;
            int inFull = quantize(QuantType.NF4, 32, full).packed[0] & 15;
            int inShort = quantize(QuantType.NF4, 32, new float[] {max, v}).packed[0] & 15;
            assertEquals(QuantType.NF4.codebook().code(multiplied), inFull, () -> v + " of " + max);
            assertEquals(QuantType.NF4.codebook().code(divided), inShort, () -> v + " of " + max);
        }
        assertTrue(different > 100, "only " + different + " values tell the two apart, seed " + SEED);
    }

    private static float[] midpoints(QuantType type) {
        float[] levels = type.codebook().values();
        Arrays.sort(levels);
        float[] midpoints = new float[levels.length - 1];
        for (int i = 0; i < midpoints.length; i++) {
            midpoints[i] = (levels[i] + levels[i + 1]) / 2f;
        }
        return midpoints;
    }

    @Test
    void anInfinityMakesItsBlockZeroAndItselfNaN() {
        float[] x = normal(128);
        x[3] = Float.NEGATIVE_INFINITY;
        Quantized q = quantize(QuantType.NF4, 64, x);
        assertEquals(Float.POSITIVE_INFINITY, q.absmax[0]);
        // inf * (1 / inf) is NaN, and everything else is ±0
        assertEquals((byte) 0x77, q.packed[0]);
        assertEquals((byte) 0x7f, q.packed[1]);
        assertTrue(q.absmax[1] < 1f);
    }

    @Test
    void aNaNTakesItsWholeBlockAndNoOther() {
        float[] x = normal(128);
        x[70] = Float.NaN;
        Quantized q = quantize(QuantType.NF4, 64, x);
        assertTrue(Float.isNaN(q.absmax[1]));
        for (int i = 32; i < 64; i++) {
            assertEquals((byte) 0xff, q.packed[i]);
        }
        assertArrayEquals(
                Arrays.copyOf(quantize(QuantType.NF4, 64, normal(128)).packed, 32), Arrays.copyOf(q.packed, 32));
    }

    @Test
    void piecesGiveTheBytesOfTheWhole() {
        float[] x = normal(64 * 9 + 17);
        Quantized whole = quantize(QuantType.FP4, 64, x);
        Quantized pieces = new Quantized(new byte[whole.packed.length], new float[whole.absmax.length]);
        for (int from = 0; from < x.length; from += 192) {
            int count = Math.min(192, x.length - from);
            BlockQuantizer.quantize(
                    QuantType.FP4, 64, x, from, count, pieces.packed, from / 2, pieces.absmax, from / 64);
        }
        assertArrayEquals(whole.packed, pieces.packed);
        assertArrayEquals(whole.absmax, pieces.absmax);
        float[] all = whole.values(QuantType.FP4, 64, x.length);
        float[] some = new float[100];
        BlockQuantizer.dequantize(QuantType.FP4, 64, whole.packed, whole.absmax, 77, 99, some, 1);
        assertArrayEquals(Arrays.copyOfRange(all, 77, 77 + 99), Arrays.copyOfRange(some, 1, 100));
    }

    @ParameterizedTest
    @ValueSource(ints = {-64, 0, 1, 16, 48, 65, 8192})
    void otherBlockSizesAreRefused(int blockSize) {
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class,
                () -> BlockQuantizer.quantize(
                        QuantType.NF4, blockSize, new float[64], 0, 64, new byte[32], 0, new float[64], 0));
        assertTrue(e.getMessage().contains("power of two from 32 to 4096, got " + blockSize), e.getMessage());
    }

    @ParameterizedTest
    @CsvSource({"65,32,2", "64,31,1", "64,32,0"})
    void arraysThatAreTooShortAreRefusedBeforeAnythingIsWritten(int count, int bytes, int scales) {
        byte[] packed = new byte[bytes];
        float[] x = normal(64);
        assertThrows(
                IndexOutOfBoundsException.class,
                () -> BlockQuantizer.quantize(QuantType.NF4, 64, x, 0, count, packed, 0, new float[scales], 0));
        assertArrayEquals(new byte[bytes], packed);
    }

    @Test
    void doubleQuantizationOfEqualScalesIsExact() {
        float[] absmax = new float[700];
        Arrays.fill(absmax, 0.37f);
        DoubleQuant.Nested nested = DoubleQuant.quantize(absmax);
        assertArrayEquals(absmax, DoubleQuant.dequantize(nested, DynamicMap.signed()), 1e-7f);
    }

    @Test
    void doubleQuantizationErrsByLittle() {
        Random random = new Random(SEED);
        float[] absmax = new float[1000];
        for (int i = 0; i < absmax.length; i++) {
            absmax[i] = 0.05f + 0.01f * (float) random.nextGaussian();
        }
        float[] restored = DoubleQuant.dequantize(DoubleQuant.quantize(absmax), DynamicMap.signed());
        // the coarsest step of the signed map is 0.9 / 64 of the block's largest deviation, about 0.035
        assertArrayEquals(absmax, restored, 0.035f * 0.9f / 64);
    }

    @Test
    void mapsThatDoNotAscendAreRefused() {
        float[] map = DynamicMap.signed();
        map[9] = map[7];
        assertThrows(IllegalArgumentException.class, () -> new Blockwise8(map));
        assertThrows(IllegalArgumentException.class, () -> new Blockwise8(new float[255]));
    }
}
