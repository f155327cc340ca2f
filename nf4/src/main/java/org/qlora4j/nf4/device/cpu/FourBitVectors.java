package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;

/**
 * 4-bit codes on 8 lanes (AVX2): a 16-entry table is two permutes and a blend. Written out step by step: with a helper
 * for the step the compiler gives up inlining it, and every vector becomes an object.
 */
final class FourBitVectors {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F8 = FloatVector.SPECIES_256;
    private static final VectorSpecies<Integer> I8 = IntVector.SPECIES_256;

    /** A byte holds its first element in the high nibble: shifts that bring the 8 codes of an int into order. */
    private static final IntVector SHIFTS = IntVector.fromArray(I8, new int[] {4, 0, 12, 8, 20, 16, 28, 24}, 0);

    /** Shifts by which the 64 codes of 8 ints are met, in the order of the elements of an int. */
    static final int[] SHIFT = {4, 0, 12, 8, 20, 16, 28, 24};

    private static final VectorShuffle<Float> BY_4 = VectorShuffle.fromOp(F8, i -> (i + 4) % 8);
    private static final VectorShuffle<Float> BY_2 = VectorShuffle.fromOp(F8, i -> (i + 2) % 8);
    private static final VectorShuffle<Float> BY_1 = VectorShuffle.fromOp(F8, i -> (i + 1) % 8);

    private FourBitVectors() {}

    /** {@link Kernels#decode4} for n a multiple of 32. */
    static void decode(long y, long table, long packed, long absmax, int blockSize, int n) {
        int log = Integer.numberOfTrailingZeros(blockSize);
        FloatVector low = FloatVector.fromMemorySegment(F8, ALL, table, ORDER);
        FloatVector high = FloatVector.fromMemorySegment(F8, ALL, table + 32, ORDER);
        for (int i = 0; i < n; i += 32) {
            float scale = get(absmax + 4L * (i >> log));
            IntVector lo = low.mul(scale).reinterpretAsInts();
            IntVector hi = high.mul(scale).reinterpretAsInts();
            long p = packed + (i >> 1);
            long to = y + 4L * i;
            IntVector c0 =
                    IntVector.broadcast(I8, ALL.get(JAVA_INT_UNALIGNED, p)).lanewise(VectorOperators.LSHR, SHIFTS);
            VectorMask<Integer> m0 = c0.lanewise(VectorOperators.LSHL, 28).compare(VectorOperators.LT, 0);
            IntVector x0 = c0.and(7);
            x0.selectFrom(lo).blend(x0.selectFrom(hi), m0).intoMemorySegment(ALL, to, ORDER);
            IntVector c1 =
                    IntVector.broadcast(I8, ALL.get(JAVA_INT_UNALIGNED, p + 4)).lanewise(VectorOperators.LSHR, SHIFTS);
            VectorMask<Integer> m1 = c1.lanewise(VectorOperators.LSHL, 28).compare(VectorOperators.LT, 0);
            IntVector x1 = c1.and(7);
            x1.selectFrom(lo).blend(x1.selectFrom(hi), m1).intoMemorySegment(ALL, to + 32, ORDER);
            IntVector c2 =
                    IntVector.broadcast(I8, ALL.get(JAVA_INT_UNALIGNED, p + 8)).lanewise(VectorOperators.LSHR, SHIFTS);
            VectorMask<Integer> m2 = c2.lanewise(VectorOperators.LSHL, 28).compare(VectorOperators.LT, 0);
            IntVector x2 = c2.and(7);
            x2.selectFrom(lo).blend(x2.selectFrom(hi), m2).intoMemorySegment(ALL, to + 64, ORDER);
            IntVector c3 =
                    IntVector.broadcast(I8, ALL.get(JAVA_INT_UNALIGNED, p + 12)).lanewise(VectorOperators.LSHR, SHIFTS);
            VectorMask<Integer> m3 = c3.lanewise(VectorOperators.LSHL, 28).compare(VectorOperators.LT, 0);
            IntVector x3 = c3.and(7);
            x3.selectFrom(lo).blend(x3.selectFrom(hi), m3).intoMemorySegment(ALL, to + 96, ORDER);
        }
    }

    /**
     * {@code y[r] = Σ w[r]·x} of {@code rows} rows of {@code n} codes each, n a multiple of 64; rows and blocks follow
     * each other.
     *
     * @param x permuted: step j of a chunk of 64 meets the elements 8·lane + j
     */
    static void dot(long y, int rows, long table, long packed, long absmax, int blockSize, long x, int n) {
        int log = Integer.numberOfTrailingZeros(blockSize);
        IntVector lo = FloatVector.fromMemorySegment(F8, ALL, table, ORDER).reinterpretAsInts();
        IntVector hi = FloatVector.fromMemorySegment(F8, ALL, table + 32, ORDER).reinterpretAsInts();
        FloatVector sum = FloatVector.zero(F8);
        long to = y;
        long at = x;
        int left = n;
        long all = (long) rows * n;
        // one flat loop: a loop per row costs a fifth at 576 columns
        for (long i = 0; i < all; i += 64) {
            IntVector v = IntVector.fromMemorySegment(I8, ALL, packed + (i >> 1), ORDER);
            IntVector c0 = v.lanewise(VectorOperators.LSHR, 4).and(15);
            FloatVector s = c0.and(7)
                    .selectFrom(lo)
                    .blend(c0.and(7).selectFrom(hi), c0.compare(VectorOperators.GT, 7))
                    .reinterpretAsFloats()
                    .mul(FloatVector.fromMemorySegment(F8, ALL, at, ORDER));
            IntVector c1 = v.and(15);
            FloatVector t = c1.and(7)
                    .selectFrom(lo)
                    .blend(c1.and(7).selectFrom(hi), c1.compare(VectorOperators.GT, 7))
                    .reinterpretAsFloats()
                    .mul(FloatVector.fromMemorySegment(F8, ALL, at + 32, ORDER));
            IntVector c2 = v.lanewise(VectorOperators.LSHR, 12).and(15);
            s = c2.and(7)
                    .selectFrom(lo)
                    .blend(c2.and(7).selectFrom(hi), c2.compare(VectorOperators.GT, 7))
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F8, ALL, at + 64, ORDER), s);
            IntVector c3 = v.lanewise(VectorOperators.LSHR, 8).and(15);
            t = c3.and(7)
                    .selectFrom(lo)
                    .blend(c3.and(7).selectFrom(hi), c3.compare(VectorOperators.GT, 7))
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F8, ALL, at + 96, ORDER), t);
            IntVector c4 = v.lanewise(VectorOperators.LSHR, 20).and(15);
            s = c4.and(7)
                    .selectFrom(lo)
                    .blend(c4.and(7).selectFrom(hi), c4.compare(VectorOperators.GT, 7))
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F8, ALL, at + 128, ORDER), s);
            IntVector c5 = v.lanewise(VectorOperators.LSHR, 16).and(15);
            t = c5.and(7)
                    .selectFrom(lo)
                    .blend(c5.and(7).selectFrom(hi), c5.compare(VectorOperators.GT, 7))
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F8, ALL, at + 160, ORDER), t);
            IntVector c6 = v.lanewise(VectorOperators.LSHR, 28).and(15);
            s = c6.and(7)
                    .selectFrom(lo)
                    .blend(c6.and(7).selectFrom(hi), c6.compare(VectorOperators.GT, 7))
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F8, ALL, at + 192, ORDER), s);
            IntVector c7 = v.lanewise(VectorOperators.LSHR, 24).and(15);
            t = c7.and(7)
                    .selectFrom(lo)
                    .blend(c7.and(7).selectFrom(hi), c7.compare(VectorOperators.GT, 7))
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F8, ALL, at + 224, ORDER), t);
            sum = s.add(t).fma(FloatVector.broadcast(F8, ALL.get(JAVA_FLOAT_UNALIGNED, absmax + 4L * (i >> log))), sum);
            at += 256;
            left -= 64;
            if (left == 0) {
                // VectorMath.sum8, written out for the same reason: a call here makes an object of the sum in every
                // chunk
                FloatVector half = sum.add(sum.rearrange(BY_4));
                FloatVector quarter = half.add(half.rearrange(BY_2));
                ALL.set(
                        JAVA_FLOAT_UNALIGNED,
                        to,
                        quarter.add(quarter.rearrange(BY_1)).lane(0));
                sum = FloatVector.zero(F8);
                to += 4;
                at = x;
                left = n;
            }
        }
    }
}
