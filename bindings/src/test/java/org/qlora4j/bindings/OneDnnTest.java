package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.bindings.Messages.assertSays;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.Arrays;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.bindings.symbols.LibrarySymbols;

@SuppressWarnings("restricted")
class OneDnnTest {
    @BeforeAll
    static void fetch() {
        RealNatives.oneDnn();
    }

    @Test
    void isThePinnedVersion() {
        assertTrue(OneDnn.version().startsWith("3.13."), OneDnn.version());
    }

    /** Row-major matrices with {@code pad} unused elements at the end of each row, which must not be touched. */
    private record Case(boolean transA, boolean transB, int m, int n, int k, int pad, float alpha, float beta) {
        int lda() {
            return (transA ? m : k) + pad;
        }

        int ldb() {
            return (transB ? k : n) + pad;
        }

        int ldc() {
            return n + pad;
        }

        float[] a() {
            return RealNatives.random(1, (transA ? k : m) * lda());
        }

        float[] b() {
            return RealNatives.random(2, (transB ? n : k) * ldb());
        }

        float[] c() {
            float[] c = RealNatives.random(3, m * ldc());
            if (beta == 0) {
                // what is there before must not be read
                for (int i = 0; i < m; i++) {
                    Arrays.fill(c, i * ldc(), i * ldc() + n, Float.NaN);
                }
            }
            return c;
        }

        float[] expected(float[] a, float[] b, float[] old) {
            float[] c = old.clone();
            for (int i = 0; i < m; i++) {
                for (int j = 0; j < n; j++) {
                    double sum = 0;
                    for (int p = 0; p < k; p++) {
                        double x = transA ? a[p * lda() + i] : a[i * lda() + p];
                        double y = transB ? b[j * ldb() + p] : b[p * ldb() + j];
                        sum += x * y;
                    }
                    c[i * ldc() + j] = (float) (alpha * sum + (beta == 0 ? 0 : beta * old[i * ldc() + j]));
                }
            }
            return c;
        }

        void check(float[] expected, MemorySegment c) {
            // fp32 sums of k products of values below 1
            float tolerance = (float) (4e-7 * Math.sqrt(k) * Math.max(1, Math.abs(alpha)) * 2);
            for (int i = 0; i < expected.length; i++) {
                float found = c.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                if (i % ldc() < n) {
                    assertEquals(expected[i], found, tolerance, this + " element " + i);
                } else {
                    assertEquals(expected[i], found, this + ": padding " + i + " was written");
                }
            }
        }
    }

    @ParameterizedTest
    @CsvSource({
        "false, false, 1, 1, 1, 0, 1, 0",
        "false, true, 7, 5, 3, 0, 1, 0",
        "true, false, 7, 5, 3, 0, 1, 0",
        "true, true, 7, 5, 3, 0, 1, 0",
        "false, false, 33, 17, 65, 0, 1, 1",
        "false, true, 33, 17, 65, 3, -0.5, 0.25",
        "true, false, 33, 17, 65, 3, 2, -1",
        "true, true, 33, 17, 65, 3, 2, 0",
        "false, true, 1, 96, 64, 0, 1, 0",
        "false, true, 64, 8, 130, 0, 1, 0",
    })
    void sgemmEqualsThePlainLoop(
            boolean transA, boolean transB, int m, int n, int k, int pad, float alpha, float beta) {
        Case t = new Case(transA, transB, m, n, k, pad, alpha, beta);
        float[] a = t.a();
        float[] b = t.b();
        float[] old = t.c();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment c = RealNatives.floats(arena, old);
            OneDnn.sgemm(
                    transA,
                    transB,
                    m,
                    n,
                    k,
                    alpha,
                    RealNatives.floats(arena, a).address(),
                    t.lda(),
                    RealNatives.floats(arena, b).address(),
                    t.ldb(),
                    beta,
                    c.address(),
                    t.ldc());
            t.check(t.expected(a, b, old), c);
        }
    }

    @ParameterizedTest
    @CsvSource({
        "false, false, 5, 7, 3, 0, 1, 0",
        "false, true, 33, 17, 65, 3, -0.5, 0.25",
        "true, false, 33, 17, 65, 3, 2, 1",
        "true, true, 16, 32, 64, 0, 1, 0",
    })
    void bf16GemmEqualsThePlainLoopOnRoundedValues(
            boolean transA, boolean transB, int m, int n, int k, int pad, float alpha, float beta) {
        Case t = new Case(transA, transB, m, n, k, pad, alpha, beta);
        float[] a = t.a();
        float[] b = t.b();
        float[] old = t.c();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment a16 = round(arena, a);
            MemorySegment b16 = round(arena, b);
            MemorySegment c = RealNatives.floats(arena, old);
            if (!OneDnn.hasBf16Gemm()) {
                assertThrows(
                        IllegalStateException.class,
                        () -> OneDnn.gemmBf16(
                                transA,
                                transB,
                                m,
                                n,
                                k,
                                alpha,
                                a16.address(),
                                t.lda(),
                                b16.address(),
                                t.ldb(),
                                beta,
                                c.address(),
                                t.ldc()));
                return;
            }
            OneDnn.gemmBf16(
                    transA,
                    transB,
                    m,
                    n,
                    k,
                    alpha,
                    a16.address(),
                    t.lda(),
                    b16.address(),
                    t.ldb(),
                    beta,
                    c.address(),
                    t.ldc());
            t.check(t.expected(a, b, old), c);
        }
    }

    /** Rounds the array itself too, so that the plain loop sees what the library sees. */
    private static MemorySegment round(Arena arena, float[] values) {
        MemorySegment bits = arena.allocate(2L * values.length, 64);
        for (int i = 0; i < values.length; i++) {
            short bf16 = RealNatives.toBf16(values[i]);
            values[i] = RealNatives.fromBf16(bf16);
            bits.setAtIndex(ValueLayout.JAVA_SHORT, i, bf16);
        }
        return bits;
    }

    @ParameterizedTest
    @CsvSource({
        "0, 2, 2, 2, 2, 2, 64, sizes must be at least 1",
        "2, -1, 2, 2, 2, 2, 64, sizes must be at least 1",
        "2, 2, 0, 2, 2, 2, 64, sizes must be at least 1",
        "2, 3, 4, 3, 4, 3, 64, 'leading dimensions must be at least 4, 4, 3'",
        "2, 3, 4, 4, 3, 3, 64, 'leading dimensions must be at least 4, 4, 3'",
        "2, 3, 4, 4, 4, 2, 64, 'leading dimensions must be at least 4, 4, 3'",
        "2, 3, 4, 4, 4, 3, 0, an address is 0",
    })
    void refusesWrongSizesBeforeTheCall(
            long m, long n, long k, long lda, long ldb, long ldc, long address, String reason) {
        IllegalArgumentException refused = assertThrows(
                IllegalArgumentException.class,
                () -> OneDnn.sgemm(false, true, m, n, k, 1, address, lda, address, ldb, 0, address, ldc));
        assertSays(refused, reason);
        assertThrows(
                IllegalArgumentException.class,
                () -> OneDnn.gemmBf16(false, true, m, n, k, 1, address, lda, address, ldb, 0, address, ldc));
    }

    @Test
    void oneThreadIsPerThread() throws Exception {
        Natives.openMp();
        MethodHandle maxThreads = Linker.nativeLinker()
                .downcallHandle(
                        LibrarySymbols.of("libgomp.so.1").find("omp_get_max_threads"),
                        FunctionDescriptor.of(ValueLayout.JAVA_INT));
        int[] found = new int[2];
        Thread told = new Thread(() -> {
            OneDnn.oneThreadForThisThread();
            found[0] = call(maxThreads);
        });
        Thread other = new Thread(() -> found[1] = call(maxThreads));
        told.start();
        told.join();
        other.start();
        other.join();
        assertEquals(1, found[0]);
        String limit = System.getenv("OMP_NUM_THREADS");
        if (limit == null && Runtime.getRuntime().availableProcessors() > 1) {
            assertTrue(found[1] > 1, "the other thread was changed too: " + found[1]);
        }
    }

    private static int call(MethodHandle function) {
        try {
            return (int) function.invokeExact();
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    @Test
    void namesStatusCodes() {
        assertEquals("invalid arguments", OneDnn.statusName(2));
        assertEquals("unimplemented", OneDnn.statusName(3));
        assertTrue(OneDnn.statusName(99).contains("3.13"));
    }
}
