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
 * 4-bit codes on 16 lanes (AVX-512), where a 16-entry table is one permute. 64 codes are 8 ints; step t takes two codes
 * of each int in {@link #dot} and all codes of two ints in {@link #decode}.
 */
final class FourBitWide {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F16 = FloatVector.SPECIES_512;
    private static final VectorSpecies<Integer> I8 = IntVector.SPECIES_256;
    private static final VectorSpecies<Integer> I16 = IntVector.SPECIES_512;

    private static final IntVector SHIFTS = lanes(lane -> FourBitVectors.SHIFT[lane % 8]);
    private static final IntVector INTS_0 = lanes(lane -> lane / 8);
    private static final IntVector INTS_1 = lanes(lane -> 2 + lane / 8);
    private static final IntVector INTS_2 = lanes(lane -> 4 + lane / 8);
    private static final IntVector INTS_3 = lanes(lane -> 6 + lane / 8);
    private static final IntVector PAIRS = lanes(lane -> lane / 2);
    private static final IntVector SHIFTS_0 = lanes(lane -> FourBitVectors.SHIFT[lane % 2]);
    private static final IntVector SHIFTS_1 = lanes(lane -> FourBitVectors.SHIFT[2 + lane % 2]);
    private static final IntVector SHIFTS_2 = lanes(lane -> FourBitVectors.SHIFT[4 + lane % 2]);
    private static final IntVector SHIFTS_3 = lanes(lane -> FourBitVectors.SHIFT[6 + lane % 2]);

    private FourBitWide() {}

    private static IntVector lanes(java.util.function.IntUnaryOperator value) {
        return IntVector.fromArray(
                I16, java.util.stream.IntStream.range(0, 16).map(value).toArray(), 0);
    }

    /** {@link Kernels#decode4} for n a multiple of 64. */
    static void decode(long y, long table, long packed, long absmax, int blockSize, int n) {
        int log = Integer.numberOfTrailingZeros(blockSize);
        FloatVector values = FloatVector.fromMemorySegment(F16, ALL, table, ORDER);
        for (int i = 0; i < n; i += 64) {
            // blocks of 32 have two scales here
            IntVector first = values.mul(get(absmax + 4L * (i >> log))).reinterpretAsInts();
            IntVector second = values.mul(get(absmax + 4L * (i + 32 >> log))).reinterpretAsInts();
            IntVector v = IntVector.fromMemorySegment(I8, ALL, packed + (i >> 1), ORDER)
                    .reinterpretShape(I16, 0)
                    .reinterpretAsInts();
            long to = y + 4L * i;
            INTS_0.selectFrom(v)
                    .lanewise(VectorOperators.LSHR, SHIFTS)
                    .and(15)
                    .selectFrom(first)
                    .intoMemorySegment(ALL, to, ORDER);
            INTS_1.selectFrom(v)
                    .lanewise(VectorOperators.LSHR, SHIFTS)
                    .and(15)
                    .selectFrom(first)
                    .intoMemorySegment(ALL, to + 64, ORDER);
            INTS_2.selectFrom(v)
                    .lanewise(VectorOperators.LSHR, SHIFTS)
                    .and(15)
                    .selectFrom(second)
                    .intoMemorySegment(ALL, to + 128, ORDER);
            INTS_3.selectFrom(v)
                    .lanewise(VectorOperators.LSHR, SHIFTS)
                    .and(15)
                    .selectFrom(second)
                    .intoMemorySegment(ALL, to + 192, ORDER);
        }
    }

    /**
     * As {@link FourBitVectors#dot}.
     *
     * @param x permuted: step t of a chunk of 64 meets, on lane l, element 8·(l / 2) + 2·t + l % 2
     */
    static void dot(long y, int rows, long table, long packed, long absmax, int blockSize, long x, int n) {
        int log = Integer.numberOfTrailingZeros(blockSize);
        IntVector values = FloatVector.fromMemorySegment(F16, ALL, table, ORDER).reinterpretAsInts();
        FloatVector sum = FloatVector.zero(F16);
        long to = y;
        long at = x;
        int left = n;
        long all = (long) rows * n;
        for (long i = 0; i < all; i += 64) {
            IntVector v = PAIRS.selectFrom(IntVector.fromMemorySegment(I8, ALL, packed + (i >> 1), ORDER)
                    .reinterpretShape(I16, 0)
                    .reinterpretAsInts());
            FloatVector s = v.lanewise(VectorOperators.LSHR, SHIFTS_0)
                    .and(15)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .mul(FloatVector.fromMemorySegment(F16, ALL, at, ORDER));
            FloatVector t = v.lanewise(VectorOperators.LSHR, SHIFTS_1)
                    .and(15)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .mul(FloatVector.fromMemorySegment(F16, ALL, at + 64, ORDER));
            s = v.lanewise(VectorOperators.LSHR, SHIFTS_2)
                    .and(15)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F16, ALL, at + 128, ORDER), s);
            t = v.lanewise(VectorOperators.LSHR, SHIFTS_3)
                    .and(15)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F16, ALL, at + 192, ORDER), t);
            sum = s.add(t).fma(FloatVector.broadcast(F16, get(absmax + 4L * (i >> log))), sum);
            at += 256;
            left -= 64;
            if (left == 0) {
                // VectorMath.sum, written out so that nothing here depends on what the compiler inlines
                sum = sum.add(sum.rearrange(VectorMath.BY_8));
                sum = sum.add(sum.rearrange(VectorMath.BY_4));
                sum = sum.add(sum.rearrange(VectorMath.BY_2));
                set(to, sum.add(sum.rearrange(VectorMath.BY_1)).lane(0));
                sum = FloatVector.zero(F16);
                to += 4;
                at = x;
                left = n;
            }
        }
    }
}
