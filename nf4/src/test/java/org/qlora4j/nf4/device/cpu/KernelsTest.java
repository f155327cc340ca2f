package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import jdk.incubator.vector.FloatVector;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.weight.Weight;

/** The vector loops against their plain twins, and against mathematics where both could be wrong. */
class KernelsTest {
    private static final int[] LENGTHS = {0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 1023, 1025, 2100};
    private static final float TOLERANCE = 4e-7f;

    private static final OptimizerFactors FACTORS = new OptimizerFactors(
            0.5f, 0.02f, 0.01f, 0.99f, 0.98f, 0.9f, 0.1f, 0.999f, 0.001f, 0.99f, 0.01f, 5, 1e-2f, 0.2f, 0.04f, 1e-8f);

    private final Arena arena = Arena.ofConfined();
    private final Random random = new Random(3);
    private final Kernels scalar = new ScalarKernels();
    private final Kernels vector = new VectorKernels();

    @AfterEach
    void close() {
        arena.close();
    }

    /** Kernels with three rows in and out, so that one test serves them. */
    private enum Loop {
        AXPBY {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.axpby(row[0], 1.5f, row[1], 0.25f, n);
                return 0;
            }
        },
        AXPBY_OVER_NAN {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.axpby(row[5], 1.5f, row[1], 0, n);
                return 0;
            }
        },
        PRODUCT_ADD {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.productAdd(row[0], 0.25f, row[1], row[2], n);
                k.productAdd(row[5], 0, row[1], row[2], n);
                return 0;
            }
        },
        SCALED_PRODUCT {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.scaledProduct(row[0], 0.3f, row[1], row[2], n);
                return 0;
            }
        },
        RMS_NORM_BACKWARD {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.rmsNormBackward(row[0], row[1], row[2], row[3], 0.7f, 0.1f, 1, n);
                k.rmsNormBackward(row[5], row[1], row[2], row[3], 0.7f, 0.1f, 0, n);
                return 0;
            }
        },
        EXP {
            @Override
            double run(Kernels k, long[] row, int n) {
                return k.exp(row[0], row[1], 1.7f, 0.2f, n);
            }
        },
        SUM_EXP {
            @Override
            double run(Kernels k, long[] row, int n) {
                return k.sumExp(row[0], 0.2f, n);
            }
        },
        SOFTMAX_BACKWARD {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.softmaxBackward(row[0], row[1], 0.9f, 0.2f, 0.125f, n);
                return 0;
            }
        },
        SWIGLU {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.swiGlu(row[0], row[1], row[2], n);
                return 0;
            }
        },
        SWIGLU_BACKWARD {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.swiGluBackward(row[0], row[1], row[2], row[3], row[4], n);
                return 0;
            }
        },
        GEGLU {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.geGlu(row[0], row[1], row[2], n);
                return 0;
            }
        },
        GEGLU_BACKWARD {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.geGluBackward(row[0], row[1], row[2], row[3], row[4], n);
                return 0;
            }
        },
        SOFTCAP {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.softcap(row[0], row[1], 0.7f, 1.5f, n);
                return 0;
            }
        },
        SOFTCAP_BACKWARD {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.softcapBackward(row[0], row[1], row[2], 0.7f, 30, n);
                return 0;
            }
        },
        ROTATE {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.rotate(row[0], row[1], row[2], -1, n / 2);
                return 0;
            }
        },
        MAX {
            @Override
            double run(Kernels k, long[] row, int n) {
                return n == 0 ? 0 : k.max(row[0], n);
            }
        },
        SUM {
            @Override
            double run(Kernels k, long[] row, int n) {
                return k.sum(row[0], n);
            }
        },
        ADD_TO {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.addTo(row[0], 0.3f, n);
                return 0;
            }
        },
        SUM_OF_SQUARES {
            @Override
            double run(Kernels k, long[] row, int n) {
                return k.sumOfSquares(row[0], n);
            }
        },
        DROPOUT {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.dropout(row[0], row[1], 1.25f, 1 << 22, -77, 1L << 40, n);
                return 0;
            }
        },
        ADAMW {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.optimizers().adamW(row[0], row[1], row[2], row[4], FACTORS, n);
                return 0;
            }
        },
        ADEMAMIX {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.optimizers().adEmaMix(row[0], row[1], row[2], row[3], row[4], FACTORS, n);
                return 0;
            }
        },
        LION {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.optimizers().lion(row[0], row[1], row[2], FACTORS, n);
                return 0;
            }
        },
        MOMENTUM {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.optimizers().momentum(row[0], row[1], row[2], FACTORS, n);
                return 0;
            }
        },
        ROOT_MEAN_SQUARE {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.optimizers().rootMeanSquare(row[0], row[1], row[4], FACTORS, n);
                return 0;
            }
        },
        BF16 {
            @Override
            double run(Kernels k, long[] row, int n) {
                k.narrowBf16(row[0], row[1], n);
                k.widenBf16(row[2], row[0], n);
                return 0;
            }
        };

        abstract double run(Kernels k, long[] row, int n);
    }

    /** Rows 0 to 3 are normally distributed, row 4 is positive, row 5 is NaN; one float more than {@code n} each. */
    private MemorySegment rows(int n) {
        MemorySegment rows = arena.allocate(6 * stride(n), 64);
        for (int r = 0; r < 6; r++) {
            for (int i = 0; i <= n; i++) {
                float v = (float) (2 * random.nextGaussian());
                rows.set(JAVA_FLOAT, r * stride(n) + 4L * i, r == 4 ? v * v : r == 5 ? Float.NaN : v);
            }
        }
        return rows;
    }

    private static long stride(int n) {
        return 4L * n + 64;
    }

    private static long[] addresses(MemorySegment rows, int n) {
        long[] at = new long[6];
        for (int r = 0; r < 6; r++) {
            at[r] = rows.address() + r * stride(n);
        }
        return at;
    }

    @ParameterizedTest
    @EnumSource
    void theTwinsAgreeAndKeepToTheirRows(Loop loop) {
        for (int n : LENGTHS) {
            MemorySegment mine = rows(n);
            MemorySegment expected = arena.allocate(mine.byteSize(), 64).copyFrom(mine);
            MemorySegment before = arena.allocate(mine.byteSize(), 64).copyFrom(mine);
            double result = loop.run(vector, addresses(mine, n), n);
            double wanted = loop.run(scalar, addresses(expected, n), n);
            assertEquals(wanted, result, TOLERANCE * (Math.abs(wanted) + 1), loop + " of " + n);
            for (int r = 0; r < 6; r++) {
                for (int i = 0; i <= n; i++) {
                    long at = r * stride(n) + 4L * i;
                    float e = expected.get(JAVA_FLOAT, at);
                    float tolerance = Float.isFinite(e) ? TOLERANCE * (Math.abs(e) + 1) : 0;
                    assertEquals(
                            e, mine.get(JAVA_FLOAT, at), tolerance, loop + " of " + n + ", row " + r + " element " + i);
                }
                long behind = r * stride(n) + 4L * n;
                assertEquals(
                        before.get(JAVA_FLOAT, behind), mine.get(JAVA_FLOAT, behind), loop + " wrote behind row " + r);
            }
        }
    }

    @Test
    void dotProducts() {
        for (int n : LENGTHS) {
            MemorySegment rows = rows(n);
            long[] at = addresses(rows, n);
            double two = 0;
            double three = 0;
            double bf16 = 0;
            double size = 1;
            for (int i = 0; i < n; i++) {
                double a = rows.get(JAVA_FLOAT, 4L * i);
                double b = rows.get(JAVA_FLOAT, stride(n) + 4L * i);
                two += a * b;
                three += a * b * rows.get(JAVA_FLOAT, 2 * stride(n) + 4L * i);
                size += Math.abs(a * b) * (1 + Math.abs(rows.get(JAVA_FLOAT, 2 * stride(n) + 4L * i)));
            }
            scalar.narrowBf16(at[4], at[0], n);
            for (int i = 0; i < n; i++) {
                double w = Float.intBitsToFloat(rows.get(JAVA_SHORT, 4 * stride(n) + 2L * i) << 16);
                bf16 += w * rows.get(JAVA_FLOAT, stride(n) + 4L * i);
            }
            for (Kernels k : new Kernels[] {scalar, vector}) {
                assertEquals(two, k.dot(at[0], at[1], n), TOLERANCE * size, "dot of " + n);
                assertEquals(three, k.dot3(at[0], at[1], at[2], n), TOLERANCE * size, "dot3 of " + n);
                k.permuteBf16(at[5], at[1], n);
                k.dotsBf16(at[3], at[4], 0, 5, at[5], n);
                for (int r = 0; r < 5; r++) {
                    assertEquals(bf16, ScalarKernels.get(at[3] + 4L * r), TOLERANCE * size, "dotsBf16 of " + n);
                }
            }
        }
    }

    @Test
    void int8CodesInBothTwins() {
        MemorySegment codes = arena.allocate(2100, 64);
        MemorySegment x = arena.allocate(4L * 2100, 64);
        for (int i = 0; i < 2100; i++) {
            codes.set(JAVA_BYTE, i, (byte) random.nextInt(256));
            x.setAtIndex(JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        for (int n : LENGTHS) {
            double sum = 0;
            double size = 1;
            for (int i = 0; i < n; i++) {
                double product = codes.get(JAVA_BYTE, i) * (double) x.getAtIndex(JAVA_FLOAT, i);
                sum += product;
                size += Math.abs(product);
            }
            MemorySegment y = arena.allocate(4L * n + 4, 64);
            for (Kernels k : new Kernels[] {scalar, vector}) {
                MemorySegment permuted = arena.allocate(4L * n + 4, 64);
                MemorySegment sums = arena.allocate(12, 64);
                k.permuteInt8(permuted.address(), x.address(), n);
                k.dotsInt8(sums.address(), codes.address(), 0, 3, permuted.address(), n);
                for (int r = 0; r < 3; r++) {
                    assertEquals(sum, sums.getAtIndex(JAVA_FLOAT, r), TOLERANCE * size, "dotsInt8 of " + n);
                }
                k.decode8(y.address(), codes.address(), 0.37f, n);
                for (int i = 0; i < n; i++) {
                    assertEquals(
                            Weight.Int8.decode(codes.get(JAVA_BYTE, i), 0.37f),
                            y.getAtIndex(JAVA_FLOAT, i),
                            "code " + i);
                }
            }
        }
    }

    @Test
    void expIsTheSameInBothTwinsAndCloseToTheTruth() {
        int n = 40_000;
        MemorySegment x = arena.allocate(4L * n, 64);
        MemorySegment y = arena.allocate(4L * n, 64);
        for (int i = 0; i < n; i++) {
            x.setAtIndex(JAVA_FLOAT, i, -87 + 174f * i / n);
        }
        vector.exp(y.address(), x.address(), 1, 0, n);
        for (int i = 0; i < n; i++) {
            float v = x.getAtIndex(JAVA_FLOAT, i);
            float e = y.getAtIndex(JAVA_FLOAT, i);
            assertEquals(ScalarKernels.exp(v), e, "e^" + v);
            assertTrue(Math.abs(e / Math.exp(v) - 1) < 2e-7, "e^" + v + " = " + e);
        }
    }

    @ParameterizedTest
    @ValueSource(floats = {-1e30f, -100, Float.NEGATIVE_INFINITY})
    void expOfVeryNegativeIsNextToNothing(float v) {
        assertTrue(ScalarKernels.exp(v) >= 0 && ScalarKernels.exp(v) < 2e-38f);
        MemorySegment x = arena.allocate(64, 64);
        for (int i = 0; i < 16; i++) {
            x.setAtIndex(JAVA_FLOAT, i, v);
        }
        assertTrue(vector.sumExp(x.address(), 0, 16) < 32e-38);
    }

    @Test
    void nanIsNotLost() {
        MemorySegment x = arena.allocate(64, 64);
        x.setAtIndex(JAVA_FLOAT, 5, Float.NaN);
        assertTrue(Double.isNaN(vector.sumExp(x.address(), 0, 16)));
        assertTrue(Double.isNaN(scalar.sumExp(x.address(), 0, 16)));
        vector.narrowBf16(x.address(), x.address(), 8);
        assertEquals(0x7FC0, x.getAtIndex(JAVA_SHORT, 5));
    }

    /** In one order whether interpreted or compiled, or a training run depends on the compiler's timing. */
    @Test
    void lanesAreAddedInAFixedOrder() {
        for (int round = 0; round < 20_000; round++) {
            float[] lanes = new float[VectorMath.F.length()];
            float[] eight = new float[8];
            for (int i = 0; i < lanes.length; i++) {
                lanes[i] = (float) random.nextGaussian();
                eight[i % 8] = lanes[i];
            }
            FloatVector v = FloatVector.fromArray(VectorMath.F, lanes, 0);
            assertEquals(folded(lanes), VectorMath.sum(v), "sum in round " + round);
            FloatVector v8 = FloatVector.fromArray(FloatVector.SPECIES_256, eight, 0);
            assertEquals(folded(eight), VectorMath.sum8(v8), "sum8 in round " + round);
        }
    }

    private static float folded(float[] lanes) {
        float[] s = lanes.clone();
        for (int half = s.length / 2; half > 0; half /= 2) {
            for (int i = 0; i < half; i++) {
                s[i] += s[i + half];
            }
        }
        return s[0];
    }

    @Test
    void theVectorTwinIsChosenWhereItsModuleIs() {
        assertInstanceOf(VectorKernels.class, Kernels.best());
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 16, 17, 64, 80, 128, 200})
    void aSingleQueryMeetsRowsThatLieApart(int n) {
        for (int rows : new int[] {1, 2, 33}) {
            int stride = n + 3;
            MemorySegment x = normal(n);
            MemorySegment matrix = normal(rows * stride);
            MemorySegment weights = normal(rows);
            for (Kernels kernels : new Kernels[] {scalar, vector}) {
                MemorySegment dots = normal(rows + 1);
                MemorySegment sums = normal(n + 1);
                float behindDots = dots.getAtIndex(JAVA_FLOAT, rows);
                float behindSums = sums.getAtIndex(JAVA_FLOAT, n);
                kernels.dots(dots.address(), x.address(), matrix.address(), stride, rows, n);
                kernels.weightedSum(sums.address(), weights.address(), matrix.address(), stride, rows, n);
                for (int r = 0; r < rows; r++) {
                    double dot = 0;
                    for (int i = 0; i < n; i++) {
                        dot += (double) x.getAtIndex(JAVA_FLOAT, i) * matrix.getAtIndex(JAVA_FLOAT, r * stride + i);
                    }
                    assertEquals(dot, dots.getAtIndex(JAVA_FLOAT, r), 1e-6 * n, "row " + r);
                }
                for (int i = 0; i < n; i++) {
                    double sum = 0;
                    for (int r = 0; r < rows; r++) {
                        sum += (double) weights.getAtIndex(JAVA_FLOAT, r)
                                * matrix.getAtIndex(JAVA_FLOAT, r * stride + i);
                    }
                    assertEquals(sum, sums.getAtIndex(JAVA_FLOAT, i), 1e-6 * rows, "column " + i);
                }
                assertEquals(behindDots, dots.getAtIndex(JAVA_FLOAT, rows));
                assertEquals(behindSums, sums.getAtIndex(JAVA_FLOAT, n));
            }
        }
    }

    private MemorySegment normal(int n) {
        MemorySegment values = arena.allocate(4L * n, 64);
        for (int i = 0; i < n; i++) {
            values.setAtIndex(JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        return values;
    }
}
