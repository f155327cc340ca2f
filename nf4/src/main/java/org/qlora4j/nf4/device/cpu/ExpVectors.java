package org.qlora4j.nf4.device.cpu;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;

/**
 * Loops with e^x, the bits of {@link ScalarKernels#exp}. Each has the function written out, although it is the same:
 * where a helper was called, it depended on what else was compiled before whether the compiler took it into the loop,
 * and if not, every vector became an object. Two blends are cheaper than min and max, which must order zeros; the shift
 * by 23 drops all bits of ROUNDER, so that they need no subtraction.
 *
 * <p>All methods do the multiple of the lanes in {@code n} and leave the rest to the caller.
 */
final class ExpVectors {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F = VectorMath.F;
    private static final int L = F.length();

    private static final FloatVector ONE = FloatVector.broadcast(F, 1f);
    private static final FloatVector HIGHEST = FloatVector.broadcast(F, ScalarKernels.EXP_LIMIT);
    private static final FloatVector LOWEST = FloatVector.broadcast(F, -ScalarKernels.EXP_LIMIT);
    private static final FloatVector LOG2_E = FloatVector.broadcast(F, ScalarKernels.LOG2_E);
    private static final FloatVector ROUNDER = FloatVector.broadcast(F, ScalarKernels.ROUNDER);
    private static final FloatVector MINUS_LN2_HIGH = FloatVector.broadcast(F, -ScalarKernels.LN2_HIGH);
    private static final FloatVector MINUS_LN2_LOW = FloatVector.broadcast(F, -ScalarKernels.LN2_LOW);
    private static final FloatVector P0 = FloatVector.broadcast(F, ScalarKernels.P0);
    private static final FloatVector P1 = FloatVector.broadcast(F, ScalarKernels.P1);
    private static final FloatVector P2 = FloatVector.broadcast(F, ScalarKernels.P2);
    private static final FloatVector P3 = FloatVector.broadcast(F, ScalarKernels.P3);
    private static final FloatVector P4 = FloatVector.broadcast(F, ScalarKernels.P4);
    private static final FloatVector P5 = FloatVector.broadcast(F, ScalarKernels.P5);

    /** Sums of this many terms stay in fp32 lanes before they go to a double. */
    private static final int CHUNK = 1024;

    private ExpVectors() {}

    /** {@code y = e^(scale·x − shift)}; the sum of y. */
    static double exp(long y, long x, float scale, float shift, int n) {
        double sum = 0;
        FloatVector factor = FloatVector.broadcast(F, scale);
        FloatVector minus = FloatVector.broadcast(F, -shift);
        int i = 0;
        while (i + L <= n) {
            int end = Math.min(n, i + CHUNK);
            FloatVector s = FloatVector.zero(F);
            for (; i + L <= end; i += L) {
                FloatVector a =
                        FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).fma(factor, minus);
                a = a.blend(HIGHEST, a.compare(VectorOperators.GT, HIGHEST));
                a = a.blend(LOWEST, a.compare(VectorOperators.LT, LOWEST));
                FloatVector shifted = a.fma(LOG2_E, ROUNDER);
                FloatVector k = shifted.sub(ROUNDER);
                FloatVector r = k.fma(MINUS_LN2_LOW, k.fma(MINUS_LN2_HIGH, a));
                FloatVector e = P0.fma(r, P1)
                        .fma(r, P2)
                        .fma(r, P3)
                        .fma(r, P4)
                        .fma(r, P5)
                        .fma(r.mul(r), r.add(ONE))
                        .reinterpretAsInts()
                        .add(shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23))
                        .reinterpretAsFloats();
                e.intoMemorySegment(ALL, y + 4L * i, ORDER);
                s = s.add(e);
            }
            sum += VectorMath.sum(s);
        }
        return sum;
    }

    /** Σ e^(x − shift). */
    static double sumExp(long x, float shift, int n) {
        double sum = 0;
        FloatVector minus = FloatVector.broadcast(F, shift);
        int i = 0;
        while (i + L <= n) {
            int end = Math.min(n, i + CHUNK);
            FloatVector s = FloatVector.zero(F);
            for (; i + L <= end; i += L) {
                FloatVector a =
                        FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).sub(minus);
                a = a.blend(HIGHEST, a.compare(VectorOperators.GT, HIGHEST));
                a = a.blend(LOWEST, a.compare(VectorOperators.LT, LOWEST));
                FloatVector shifted = a.fma(LOG2_E, ROUNDER);
                FloatVector k = shifted.sub(ROUNDER);
                FloatVector r = k.fma(MINUS_LN2_LOW, k.fma(MINUS_LN2_HIGH, a));
                FloatVector e = P0.fma(r, P1)
                        .fma(r, P2)
                        .fma(r, P3)
                        .fma(r, P4)
                        .fma(r, P5)
                        .fma(r.mul(r), r.add(ONE))
                        .reinterpretAsInts()
                        .add(shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23))
                        .reinterpretAsFloats();
                s = s.add(e);
            }
            sum += VectorMath.sum(s);
        }
        return sum;
    }

    /** {@link Kernels#swiGlu}. */
    static void swiGlu(long y, long g, long u, int n) {
        for (int i = 0; i + L <= n; i += L) {
            FloatVector x = FloatVector.fromMemorySegment(F, ALL, g + 4L * i, ORDER);
            FloatVector a = x.neg();
            a = a.blend(HIGHEST, a.compare(VectorOperators.GT, HIGHEST));
            a = a.blend(LOWEST, a.compare(VectorOperators.LT, LOWEST));
            FloatVector shifted = a.fma(LOG2_E, ROUNDER);
            FloatVector k = shifted.sub(ROUNDER);
            FloatVector r = k.fma(MINUS_LN2_LOW, k.fma(MINUS_LN2_HIGH, a));
            FloatVector e = P0.fma(r, P1)
                    .fma(r, P2)
                    .fma(r, P3)
                    .fma(r, P4)
                    .fma(r, P5)
                    .fma(r.mul(r), r.add(ONE))
                    .reinterpretAsInts()
                    .add(shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23))
                    .reinterpretAsFloats();
            x.div(e.add(ONE))
                    .mul(FloatVector.fromMemorySegment(F, ALL, u + 4L * i, ORDER))
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        }
    }

    /** {@link Kernels#swiGluBackward}. */
    static void swiGluBackward(long dg, long du, long dy, long g, long u, int n) {
        for (int i = 0; i + L <= n; i += L) {
            FloatVector x = FloatVector.fromMemorySegment(F, ALL, g + 4L * i, ORDER);
            FloatVector up = FloatVector.fromMemorySegment(F, ALL, u + 4L * i, ORDER);
            FloatVector d = FloatVector.fromMemorySegment(F, ALL, dy + 4L * i, ORDER);
            FloatVector a = x.neg();
            a = a.blend(HIGHEST, a.compare(VectorOperators.GT, HIGHEST));
            a = a.blend(LOWEST, a.compare(VectorOperators.LT, LOWEST));
            FloatVector shifted = a.fma(LOG2_E, ROUNDER);
            FloatVector k = shifted.sub(ROUNDER);
            FloatVector r = k.fma(MINUS_LN2_LOW, k.fma(MINUS_LN2_HIGH, a));
            FloatVector e = P0.fma(r, P1)
                    .fma(r, P2)
                    .fma(r, P3)
                    .fma(r, P4)
                    .fma(r, P5)
                    .fma(r.mul(r), r.add(ONE))
                    .reinterpretAsInts()
                    .add(shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23))
                    .reinterpretAsFloats();
            FloatVector sigmoid = ONE.div(e.add(ONE));
            d.mul(x).mul(sigmoid).intoMemorySegment(ALL, du + 4L * i, ORDER);
            // e·sigmoid is 1 - sigmoid without the cancellation
            d.mul(up).mul(sigmoid).mul(e.mul(sigmoid).fma(x, ONE)).intoMemorySegment(ALL, dg + 4L * i, ORDER);
        }
    }
}
