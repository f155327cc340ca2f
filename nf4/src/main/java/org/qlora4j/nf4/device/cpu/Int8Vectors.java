package org.qlora4j.nf4.device.cpu;

import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.weight.Weight;

/**
 * Vector loops over LLM.int8's codes: decoded eight at a time, since the JVM widens 64 bits of bytes to 256 of floats;
 * met by a vector four to an int, two rows at a time.
 */
final class Int8Vectors {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F8 = FloatVector.SPECIES_256;
    private static final VectorSpecies<Float> F = VectorMath.F;
    private static final VectorSpecies<Integer> I = VectorMath.I;
    private static final int L = F.length();

    private Int8Vectors() {}

    private static FloatVector codes(long address) {
        return (FloatVector) ByteVector.fromMemorySegment(ByteVector.SPECIES_64, ALL, address, ORDER)
                .convertShape(VectorOperators.B2F, F8, 0);
    }

    /** The first {@code n & -8} of {@link Kernels#decode8}. */
    static void decode(long y, long codes, float absmax, int n) {
        for (int i = 0; i + 8 <= n; i += 8) {
            codes(codes + i).mul(absmax).mul(Weight.Int8.INVERSE_127).intoMemorySegment(ALL, y + 4L * i, ORDER);
        }
    }

    /** Columns that {@link #dots} takes of n: an int of each lane has four codes. */
    static int whole(int n) {
        return n - n % (4 * L);
    }

    /** {@link Kernels#permuteInt8} of whole columns: step t of 4·lanes elements meets the elements 4·lane + t. */
    static void permute(long y, long x, int n) {
        for (int i = 0; i < n; i += 4 * L) {
            for (int lane = 0; lane < L; lane++) {
                for (int t = 0; t < 4; t++) {
                    set(y + 4L * (i + t * L + lane), get(x + 4L * (i + 4 * lane + t)));
                }
            }
        }
    }

    /** {@link Kernels#dotsInt8} of whole columns. */
    static void dots(long y, long first, int stride, int rows, long x, int n) {
        int r = 0;
        for (; r + 2 <= rows; r += 2) {
            dots2(y + 4L * r, first + (long) r * stride, first + (long) (r + 1) * stride, x, n);
        }
        if (r < rows) {
            dots1(y + 4L * r, first + (long) r * stride, x, n);
        }
    }

    private static FloatVector code(IntVector four, int shift) {
        return (FloatVector) four.lanewise(VectorOperators.LSHL, shift)
                .lanewise(VectorOperators.ASHR, 24)
                .convert(VectorOperators.I2F, 0);
    }

    private static void dots2(long y, long row0, long row1, long x, int n) {
        FloatVector s0 = FloatVector.zero(F);
        FloatVector s1 = FloatVector.zero(F);
        FloatVector t0 = FloatVector.zero(F);
        FloatVector t1 = FloatVector.zero(F);
        for (int i = 0; i < n; i += 4 * L) {
            IntVector v = IntVector.fromMemorySegment(I, ALL, row0 + i, ORDER);
            IntVector w = IntVector.fromMemorySegment(I, ALL, row1 + i, ORDER);
            FloatVector x0 = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER);
            FloatVector x1 = FloatVector.fromMemorySegment(F, ALL, x + 4L * (i + L), ORDER);
            s0 = code(v, 24).fma(x0, s0);
            s1 = code(w, 24).fma(x0, s1);
            t0 = code(v, 16).fma(x1, t0);
            t1 = code(w, 16).fma(x1, t1);
            FloatVector x2 = FloatVector.fromMemorySegment(F, ALL, x + 4L * (i + 2 * L), ORDER);
            FloatVector x3 = FloatVector.fromMemorySegment(F, ALL, x + 4L * (i + 3 * L), ORDER);
            s0 = code(v, 8).fma(x2, s0);
            s1 = code(w, 8).fma(x2, s1);
            t0 = code(v, 0).fma(x3, t0);
            t1 = code(w, 0).fma(x3, t1);
        }
        set(y, VectorMath.sum(s0.add(t0)));
        set(y + 4, VectorMath.sum(s1.add(t1)));
    }

    private static void dots1(long y, long row, long x, int n) {
        FloatVector s = FloatVector.zero(F);
        FloatVector t = FloatVector.zero(F);
        for (int i = 0; i < n; i += 4 * L) {
            IntVector v = IntVector.fromMemorySegment(I, ALL, row + i, ORDER);
            s = code(v, 24).fma(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, ORDER), s);
            t = code(v, 16).fma(FloatVector.fromMemorySegment(F, ALL, x + 4L * (i + L), ORDER), t);
            s = code(v, 8).fma(FloatVector.fromMemorySegment(F, ALL, x + 4L * (i + 2 * L), ORDER), s);
            t = code(v, 0).fma(FloatVector.fromMemorySegment(F, ALL, x + 4L * (i + 3 * L), ORDER), t);
        }
        set(y, VectorMath.sum(s.add(t)));
    }
}
