package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.bindings.Messages.assertSays;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.bindings.BitsAndBytes.FourBit;

class BitsAndBytesTest {
    /** As bitsandbytes' functional.py lists them. */
    private static final float[] NF4 = {
        -1.0f,
        -0.6961928009986877f,
        -0.5250730514526367f,
        -0.39491748809814453f,
        -0.28444138169288635f,
        -0.18477343022823334f,
        -0.09105003625154495f,
        0.0f,
        0.07958029955625534f,
        0.16093020141124725f,
        0.24611230194568634f,
        0.33791524171829224f,
        0.44070982933044434f,
        0.5626170039176941f,
        0.7229568362236023f,
        1.0f
    };

    /** Twelfths, as bitsandbytes' functional.py lists them; the upper eight codes are the negatives. */
    private static final float[] FP4_TWELFTHS = {0, 0.0625f, 8, 12, 4, 6, 2, 3};

    @BeforeAll
    static void fetch() {
        RealNatives.oneDnn();
        RealNatives.bitsandbytes();
    }

    private static float value(FourBit type, int code) {
        return switch (type) {
            case NF4 -> NF4[code];
            case FP4 -> (code < 8 ? 1 : -1) * FP4_TWELFTHS[code & 7] / 12;
        };
    }

    /** Every code, the first of a byte in the high nibble. */
    private static byte[] codes(int n) {
        byte[] packed = new byte[n / 2];
        SplittableRandom random = new SplittableRandom(5);
        random.nextBytes(packed);
        packed[0] = (byte) 0x0F;
        packed[1] = (byte) 0x87;
        return packed;
    }

    private static int code(byte[] packed, int i) {
        return i % 2 == 0 ? (packed[i / 2] >> 4) & 15 : packed[i / 2] & 15;
    }

    @ParameterizedTest
    @CsvSource({"NF4, 32, 5", "NF4, 64, 3", "NF4, 4096, 2", "NF4, 64, 1", "FP4, 32, 5", "FP4, 64, 3", "FP4, 1024, 2"})
    void dequantizes4Bit(FourBit type, int blockSize, int blocks) {
        int n = blockSize * blocks;
        byte[] packed = codes(n);
        float[] absmax = new float[blocks];
        for (int b = 0; b < blocks; b++) {
            absmax[b] = 0.37f * (b + 1);
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment codes = arena.allocateFrom(ValueLayout.JAVA_BYTE, packed);
            MemorySegment scales = RealNatives.floats(arena, absmax);
            MemorySegment out = arena.allocate(4L * n, 64);
            MemorySegment out16 = arena.allocate(2L * n, 64);
            BitsAndBytes.dequantize4Bit(type, codes.address(), scales.address(), out.address(), blockSize, n);
            BitsAndBytes.dequantize4BitToBf16(type, codes.address(), scales.address(), out16.address(), blockSize, n);
            for (int i = 0; i < n; i++) {
                float expected = value(type, code(packed, i)) * absmax[i / blockSize];
                float found = out.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                // FP4's table in the library is rounded from decimal text
                assertEquals(expected, found, type == FourBit.NF4 ? 0 : 2e-7f, "element " + i);
                assertEquals(
                        RealNatives.toBf16(found), out16.getAtIndex(ValueLayout.JAVA_SHORT, i), "bf16 element " + i);
            }
        }
    }

    /** The table of 65,536 bins that facts of bitsandbytes 0.50 describe; a block of zeros gives code 0. */
    @ParameterizedTest
    @ValueSource(ints = {256, 300, 512, 1})
    void quantizes8Bit(int n) {
        int blockSize = 256;
        int blocks = (n + blockSize - 1) / blockSize;
        float[] x = RealNatives.random(6, n);
        x[0] = -3;
        if (n > blockSize) {
            java.util.Arrays.fill(x, blockSize, n, 0);
        }
        float[] codebook = new float[256];
        for (int i = 0; i < 256; i++) {
            codebook[i] = (i - 127) / 128f * Math.abs((i - 127) / 128f);
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment code = RealNatives.floats(arena, codebook);
            MemorySegment absmax = arena.allocate(4L * blocks, 64);
            MemorySegment q = arena.allocate(n, 64);
            MemorySegment back = arena.allocate(4L * n, 64);
            BitsAndBytes.quantize8Bit(
                    code.address(),
                    RealNatives.floats(arena, x).address(),
                    absmax.address(),
                    q.address(),
                    blockSize,
                    n);
            BitsAndBytes.dequantize8Bit(code.address(), q.address(), absmax.address(), back.address(), blockSize, n);
            assertEquals(3, absmax.getAtIndex(ValueLayout.JAVA_FLOAT, 0));
            for (int i = 0; i < n; i++) {
                int found = q.get(ValueLayout.JAVA_BYTE, i) & 0xFF;
                float scale = absmax.getAtIndex(ValueLayout.JAVA_FLOAT, i / blockSize);
                assertEquals(i >= blockSize ? 0 : binned(codebook, x[i], 3), found, "element " + i + ", x " + x[i]);
                assertEquals(codebook[found] * scale, back.getAtIndex(ValueLayout.JAVA_FLOAT, i), "element " + i);
            }
        }
    }

    private static int binned(float[] codebook, float x, float absmax) {
        float clamped = Math.clamp(x * (1f / absmax), -1f, 1f);
        int bin = (int) ((clamped + 1f) * 0.5f * 65535f + 0.5f);
        float middle = -1f + (2f * bin) / 65535f;
        int c = 0;
        while (c < 255 && 0.5f * (codebook[c] + codebook[c + 1]) < middle) {
            c++;
        }
        return c;
    }

    @Test
    void multipliesInTheCpuLayout() {
        int m = 3;
        int n = 64;
        int k = 128;
        int blockSize = 64;
        byte[] codes = codes(2 * n * k);
        float[] x = RealNatives.random(7, m * k);
        float[] scales = RealNatives.random(8, n * k / blockSize);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment x16 = bf16(arena, x);
            MemorySegment absmax = bf16(arena, scales);
            MemorySegment w = arena.allocate((long) n * k / 2, 64);
            for (int row = 0; row < n; row++) {
                for (int col = 0; col < k; col++) {
                    long at = (row / 32L * (k / 2) + col / 2) * 32 + (row % 16) * 2L + col % 2;
                    int shift = row % 32 < 16 ? 0 : 4;
                    w.set(ValueLayout.JAVA_BYTE, at, (byte)
                            (w.get(ValueLayout.JAVA_BYTE, at) | codes[row * k + col] << shift & 15 << shift));
                }
            }
            MemorySegment out = arena.allocate(2L * m * n, 64);
            if (!BitsAndBytes.hasAvx512Bf16()) {
                assertThrows(
                        IllegalStateException.class,
                        () -> BitsAndBytes.gemvNf4Bf16(
                                m, n, k, x16.address(), w.address(), absmax.address(), out.address(), blockSize, k, n));
                return;
            }
            BitsAndBytes.gemvNf4Bf16(
                    m, n, k, x16.address(), w.address(), absmax.address(), out.address(), blockSize, k, n);
            for (int i = 0; i < m; i++) {
                for (int row = 0; row < n; row++) {
                    double sum = 0;
                    double size = 0;
                    for (int col = 0; col < k; col++) {
                        float weight = RealNatives.fromBf16(RealNatives.toBf16(NF4[codes[row * k + col] & 15]));
                        double product = (double) x[i * k + col] * weight * scales[col / blockSize * n + row];
                        sum += product;
                        size += Math.abs(product);
                    }
                    float found = RealNatives.fromBf16(out.getAtIndex(ValueLayout.JAVA_SHORT, (long) i * n + row));
                    // bf16 has 8 bits: half a unit in the last place of the result, and fp32 sums before
                    assertEquals(sum, found, Math.abs(sum) / 256 + size * 1e-5, "row " + i + ", column " + row);
                }
            }
        }
    }

    private static MemorySegment bf16(Arena arena, float[] values) {
        MemorySegment bits = arena.allocate(2L * values.length, 64);
        for (int i = 0; i < values.length; i++) {
            bits.setAtIndex(ValueLayout.JAVA_SHORT, i, RealNatives.toBf16(values[i]));
            values[i] = RealNatives.fromBf16(RealNatives.toBf16(values[i]));
        }
        return bits;
    }

    /** what would end the process is refused before the call. */
    @ParameterizedTest
    @CsvSource({
        "64, 64, 0, an address is 0",
        "64, 0, 64, at least one",
        "64, -64, 64, at least one",
        "64, 100, 64, no whole number of blocks",
        "48, 96, 64, a power of two from 32 to 4096",
        "16, 64, 64, a power of two from 32 to 4096",
        "8192, 8192, 64, a power of two from 32 to 4096",
        "-2147483648, 64, 64, a power of two from 32 to 4096",
        "32, 68719476736, 64, counts blocks in 32 bits",
    })
    void refusesWrongArgumentsBeforeTheCall(int blockSize, long n, long address, String reason) {
        for (FourBit type : FourBit.values()) {
            IllegalArgumentException refused = assertThrows(
                    IllegalArgumentException.class,
                    () -> BitsAndBytes.dequantize4Bit(type, address, 64, 64, blockSize, n));
            assertSays(refused, reason);
            assertThrows(
                    IllegalArgumentException.class,
                    () -> BitsAndBytes.dequantize4BitToBf16(type, 64, 64, address, blockSize, n));
        }
    }

    @ParameterizedTest
    @CsvSource({
        "16, 64, 64, 64, n must be a multiple of 32",
        "32, 96, 96, 32, one of the block size",
        "32, 64, 63, 32, xStride",
        "32, 64, 65, 32, xStride",
        "32, 64, 64, 31, outStride"
    })
    void gemvRefusesWhatWouldAbortTheProcess(long n, long k, long xStride, long outStride, String reason) {
        IllegalArgumentException refused = assertThrows(
                IllegalArgumentException.class,
                () -> BitsAndBytes.gemvNf4Bf16(1, n, k, 64, 64, 64, 64, 64, xStride, outStride));
        assertSays(refused, reason);
    }

    @Test
    void eightBitRefusesWrongArguments() {
        assertThrows(IllegalArgumentException.class, () -> BitsAndBytes.quantize8Bit(0, 64, 64, 64, 256, 256));
        assertThrows(IllegalArgumentException.class, () -> BitsAndBytes.quantize8Bit(64, 64, 64, 64, 0, 256));
        assertThrows(IllegalArgumentException.class, () -> BitsAndBytes.dequantize8Bit(64, 64, 64, 64, 256, 0));
    }

    @Test
    void knowsTheCpu() {
        if (BitsAndBytes.hasAvx512Bf16()) {
            assertTrue(BitsAndBytes.hasAvx512(), "AVX-512 bf16 without AVX-512");
        }
    }
}
