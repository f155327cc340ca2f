package org.qlora4j.nf4.device.cpu;

import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;

/**
 * One vector against many rows. Dot products take four rows at a time: x is loaded once for the four, and their sums do
 * not wait for each other. A row's bits do not depend on the rows it is met with.
 */
final class RowVectors {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F = VectorMath.F;
    private static final VectorSpecies<Integer> I = VectorMath.I;
    private static final int L = F.length();
    /** The upper half of an int: its second bf16. */
    private static final int SECOND = 0xFFFF0000;

    private RowVectors() {}

    private static FloatVector load(long address) {
        return FloatVector.fromMemorySegment(F, ALL, address, ORDER);
    }

    private static IntVector pairs(long address) {
        return IntVector.fromMemorySegment(I, ALL, address, ORDER);
    }

    private static FloatVector first(IntVector pairs) {
        return pairs.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
    }

    private static FloatVector second(IntVector pairs) {
        return pairs.and(SECOND).reinterpretAsFloats();
    }

    /** {@link Kernels#dots} of the first {@code n} columns, n a multiple of the lanes. */
    static void dots(long y, long x, long first, int stride, int rows, int n) {
        int r = 0;
        for (; r + 4 <= rows; r += 4) {
            dots4(y + 4L * r, x, first + 4L * r * stride, 4L * stride, n);
        }
        for (; r < rows; r++) {
            dots1(y + 4L * r, x, first + 4L * r * stride, n);
        }
    }

    private static void dots4(long y, long x, long row, long bytes, int n) {
        FloatVector s0 = FloatVector.zero(F);
        FloatVector s1 = FloatVector.zero(F);
        FloatVector s2 = FloatVector.zero(F);
        FloatVector s3 = FloatVector.zero(F);
        for (int i = 0; i < n; i += L) {
            FloatVector v = load(x + 4L * i);
            long at = row + 4L * i;
            s0 = v.fma(load(at), s0);
            s1 = v.fma(load(at + bytes), s1);
            s2 = v.fma(load(at + 2 * bytes), s2);
            s3 = v.fma(load(at + 3 * bytes), s3);
        }
        set(y, VectorMath.sum(s0));
        set(y + 4, VectorMath.sum(s1));
        set(y + 8, VectorMath.sum(s2));
        set(y + 12, VectorMath.sum(s3));
    }

    private static void dots1(long y, long x, long row, int n) {
        FloatVector s = FloatVector.zero(F);
        for (int i = 0; i < n; i += L) {
            s = load(x + 4L * i).fma(load(row + 4L * i), s);
        }
        set(y, VectorMath.sum(s));
    }

    /** {@link Kernels#weightedSum} of the first {@code n} columns, n a multiple of the lanes. */
    static void weightedSum(long y, long weights, long first, int stride, int rows, int n) {
        int i = 0;
        for (; i + 4 * L <= n; i += 4 * L) {
            FloatVector s0 = FloatVector.zero(F);
            FloatVector s1 = FloatVector.zero(F);
            FloatVector s2 = FloatVector.zero(F);
            FloatVector s3 = FloatVector.zero(F);
            long row = first + 4L * i;
            for (int r = 0; r < rows; r++) {
                FloatVector w = FloatVector.broadcast(F, get(weights + 4L * r));
                s0 = w.fma(load(row), s0);
                s1 = w.fma(load(row + 4L * L), s1);
                s2 = w.fma(load(row + 8L * L), s2);
                s3 = w.fma(load(row + 12L * L), s3);
                row += 4L * stride;
            }
            s0.intoMemorySegment(ALL, y + 4L * i, ORDER);
            s1.intoMemorySegment(ALL, y + 4L * (i + L), ORDER);
            s2.intoMemorySegment(ALL, y + 4L * (i + 2 * L), ORDER);
            s3.intoMemorySegment(ALL, y + 4L * (i + 3 * L), ORDER);
        }
        for (; i < n; i += L) {
            FloatVector s = FloatVector.zero(F);
            for (int r = 0; r < rows; r++) {
                s = load(first + 4L * ((long) r * stride + i)).fma(FloatVector.broadcast(F, get(weights + 4L * r)), s);
            }
            s.intoMemorySegment(ALL, y + 4L * i, ORDER);
        }
    }

    /** Columns that {@link #dotsBf16} takes of n. */
    static int wholeBf16(int n) {
        return n - n % (2 * L);
    }

    /** {@link Kernels#permuteBf16} of whole columns: of each 2·lanes elements those of even index, then the others. */
    static void permuteBf16(long y, long x, int n) {
        for (int i = 0; i < n; i += 2 * L) {
            for (int lane = 0; lane < L; lane++) {
                set(y + 4L * (i + lane), get(x + 4L * (i + 2 * lane)));
                set(y + 4L * (i + L + lane), get(x + 4L * (i + 2 * lane + 1)));
            }
        }
    }

    /** {@link Kernels#dotsBf16} of whole columns. */
    static void dotsBf16(long y, long first, int stride, int rows, long x, int n) {
        int r = 0;
        for (; r + 4 <= rows; r += 4) {
            dots4Bf16(y + 4L * r, first + 2L * r * stride, 2L * stride, x, n);
        }
        for (; r < rows; r++) {
            dots1Bf16(y + 4L * r, first + 2L * r * stride, x, n);
        }
    }

    private static void dots4Bf16(long y, long row, long bytes, long x, int n) {
        FloatVector s0 = FloatVector.zero(F);
        FloatVector s1 = FloatVector.zero(F);
        FloatVector s2 = FloatVector.zero(F);
        FloatVector s3 = FloatVector.zero(F);
        for (int i = 0; i < n; i += 2 * L) {
            FloatVector even = load(x + 4L * i);
            FloatVector odd = load(x + 4L * (i + L));
            long at = row + 2L * i;
            IntVector w0 = pairs(at);
            IntVector w1 = pairs(at + bytes);
            IntVector w2 = pairs(at + 2 * bytes);
            IntVector w3 = pairs(at + 3 * bytes);
            s0 = second(w0).fma(odd, first(w0).fma(even, s0));
            s1 = second(w1).fma(odd, first(w1).fma(even, s1));
            s2 = second(w2).fma(odd, first(w2).fma(even, s2));
            s3 = second(w3).fma(odd, first(w3).fma(even, s3));
        }
        set(y, VectorMath.sum(s0));
        set(y + 4, VectorMath.sum(s1));
        set(y + 8, VectorMath.sum(s2));
        set(y + 12, VectorMath.sum(s3));
    }

    private static void dots1Bf16(long y, long row, long x, int n) {
        FloatVector s = FloatVector.zero(F);
        for (int i = 0; i < n; i += 2 * L) {
            IntVector w = pairs(row + 2L * i);
            s = second(w).fma(load(x + 4L * (i + L)), first(w).fma(load(x + 4L * i), s));
        }
        set(y, VectorMath.sum(s));
    }
}
