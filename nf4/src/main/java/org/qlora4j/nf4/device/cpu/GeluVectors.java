package org.qlora4j.nf4.device.cpu;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;

/**
 * Gemma's loops: gelu and the softcap, the bits of {@link ScalarKernels}. e^x is written out in each for the reason
 * given in {@link ExpVectors}. All methods do the multiple of the lanes in {@code n} and leave the rest to the caller.
 */
final class GeluVectors {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F = VectorMath.F;
    private static final int L = F.length();

    private static final FloatVector ONE = FloatVector.broadcast(F, 1f);
    private static final FloatVector TWO = FloatVector.broadcast(F, 2f);
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
    private static final FloatVector SLOPE = FloatVector.broadcast(F, ScalarKernels.GELU_SLOPE);
    private static final FloatVector CUBE = FloatVector.broadcast(F, ScalarKernels.GELU_CUBE);
    private static final FloatVector CUBE_3 = FloatVector.broadcast(F, 3 * ScalarKernels.GELU_CUBE);
    private static final FloatVector T0 = FloatVector.broadcast(F, ScalarKernels.T0);
    private static final FloatVector T1 = FloatVector.broadcast(F, ScalarKernels.T1);
    private static final FloatVector T2 = FloatVector.broadcast(F, ScalarKernels.T2);
    private static final FloatVector T3 = FloatVector.broadcast(F, ScalarKernels.T3);
    private static final FloatVector T4 = FloatVector.broadcast(F, ScalarKernels.T4);

    private GeluVectors() {}

    /** {@link Kernels#geGlu}. */
    static void geGlu(long y, long g, long u, int n) {
        for (int i = 0; i + L <= n; i += L) {
            FloatVector x = FloatVector.fromMemorySegment(F, ALL, g + 4L * i, ORDER);
            FloatVector a = x.neg().mul(x.mul(x).fma(CUBE, SLOPE));
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

    /** {@link Kernels#geGluBackward}. */
    static void geGluBackward(long dg, long du, long dy, long g, long u, int n) {
        for (int i = 0; i + L <= n; i += L) {
            FloatVector x = FloatVector.fromMemorySegment(F, ALL, g + 4L * i, ORDER);
            FloatVector up = FloatVector.fromMemorySegment(F, ALL, u + 4L * i, ORDER);
            FloatVector d = FloatVector.fromMemorySegment(F, ALL, dy + 4L * i, ORDER);
            FloatVector square = x.mul(x);
            FloatVector a = x.neg().mul(square.fma(CUBE, SLOPE));
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
            FloatVector inner = x.mul(square.fma(CUBE_3, SLOPE));
            d.mul(x).mul(sigmoid).intoMemorySegment(ALL, du + 4L * i, ORDER);
            d.mul(up).mul(sigmoid).mul(inner.fma(e.mul(sigmoid), ONE)).intoMemorySegment(ALL, dg + 4L * i, ORDER);
        }
    }

    /** {@link Kernels#softcap}. */
    static void softcap(long y, long x, float scale, float cap, int n) {
        FloatVector factor = FloatVector.broadcast(F, scale / cap);
        FloatVector times = FloatVector.broadcast(F, cap);
        for (int i = 0; i + L <= n; i += L) {
            FloatVector v =
                    FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER).mul(factor);
            FloatVector z = v.mul(v);
            FloatVector small =
                    T0.fma(z, T1).fma(z, T2).fma(z, T3).fma(z, T4).mul(z).fma(v, v);
            FloatVector size = v.abs();
            FloatVector a = size.mul(TWO);
            a = a.blend(HIGHEST, a.compare(VectorOperators.GT, HIGHEST));
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
            FloatVector large = ONE.sub(TWO.div(e.add(ONE)));
            large = large.blend(large.neg(), v.compare(VectorOperators.LT, 0f));
            large.blend(small, size.compare(VectorOperators.LT, ScalarKernels.TANH_SMALL))
                    .mul(times)
                    .intoMemorySegment(ALL, y + 4L * i, ORDER);
        }
    }
}
