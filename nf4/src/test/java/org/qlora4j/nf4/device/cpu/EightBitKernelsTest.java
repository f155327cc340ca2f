package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.SplittableRandom;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.nf4.weight.Blockwise8;

/** The vector loops over 8-bit codes give the scalar loops' bytes. */
class EightBitKernelsTest {
    private final OptimizerKernels scalar = new ScalarOptimizers();
    private final OptimizerKernels vector = new VectorOptimizers();

    @ParameterizedTest
    @CsvSource({"NEAREST, true", "NEAREST, false", "TABLE, true", "TABLE, false"})
    void theTwinsGiveTheSameBytes(Blockwise8.Rule rule, boolean signed) {
        DynamicCodes map = DynamicCodes.of(rule, signed);
        SplittableRandom random = new SplittableRandom(4);
        int[] scratch = new int[256];
        try (Arena arena = Arena.ofConfined()) {
            for (int n : new int[] {1, 7, 16, 100, 240, 255, 256}) {
                for (int round = 0; round < 200; round++) {
                    MemorySegment x = arena.allocate(4L * n, 64);
                    for (int i = 0; i < n; i++) {
                        // eight decades, zeros of both signs, and blocks of zeros
                        double size = round == 0 ? 0 : Math.pow(10, -8 * random.nextDouble());
                        double sign = signed && random.nextBoolean() ? -1 : 1;
                        x.setAtIndex(JAVA_FLOAT, i, (float) (random.nextInt(20) == 0 ? sign * 0.0 : sign * size));
                    }
                    MemorySegment a = arena.allocate(n + 1L, 64);
                    MemorySegment b = arena.allocate(n + 1L, 64);
                    float expected = scalar.encode8(a.address(), x.address(), map, scratch, n);
                    float absmax = vector.encode8(b.address(), x.address(), map, scratch, n);
                    assertEquals(expected, absmax);
                    assertArrayEquals(a.toArray(JAVA_BYTE), b.toArray(JAVA_BYTE), "codes of " + n);
                    MemorySegment y = arena.allocate(4L * n + 4, 64);
                    MemorySegment z = arena.allocate(4L * n + 4, 64);
                    scalar.decode8(y.address(), a.address(), absmax, map, scratch, n);
                    vector.decode8(z.address(), a.address(), absmax, map, scratch, n);
                    assertArrayEquals(y.toArray(JAVA_FLOAT), z.toArray(JAVA_FLOAT), "values of " + n);
                }
            }
        }
    }
}
