package org.qlora4j.nf4.device.cpu;

import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;

/**
 * 4-bit codes on 16 lanes (AVX-512), where a 16-entry table is one permute. Step t takes all codes of two ints in
 * {@link #decode}, and one code of each of 16 ints in {@link #dot}.
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

    /** The lanes of the second 64 of 128 codes. */
    private static final VectorMask<Float> SECOND_HALF = VectorMask.fromLong(F16, 0xFF00);

    /** Whether {@link #dot} can be used: before JDK 24, selectFrom refuses an index beyond the lanes. */
    static final boolean INDICES_WRAP = Runtime.version().feature() >= 24;

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
     * As {@link FourBitVectors#dot}, for n of at least 128. Codes are shifted, not masked: selectFrom takes the low
     * four bits of an index ({@link #INDICES_WRAP}). A row that ends on an odd 64 has its last 128 codes met again, the
     * first half of them by zeros, so that nothing beyond it is read.
     *
     * @param x as {@link #permute} leaves it
     */
    static void dot(long y, int rows, long table, long packed, long absmax, int blockSize, long x, int n) {
        int log = Integer.numberOfTrailingZeros(blockSize);
        IntVector values = FloatVector.fromMemorySegment(F16, ALL, table, ORDER).reinterpretAsInts();
        FloatVector sum = FloatVector.zero(F16);
        int chunks = (n + 127) / 128;
        int toLast = n % 128 == 0 ? 128 : 64;
        long to = y;
        long at = x;
        int left = chunks;
        long i = 0;
        // one flat loop: a loop per row costs a fifth at 576 columns
        for (long all = (long) rows * chunks; all > 0; all--) {
            IntVector v = IntVector.fromMemorySegment(I16, ALL, packed + (i >> 1), ORDER);
            FloatVector s = v.lanewise(VectorOperators.LSHR, 4)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .mul(FloatVector.fromMemorySegment(F16, ALL, at, ORDER));
            FloatVector t = v.selectFrom(values)
                    .reinterpretAsFloats()
                    .mul(FloatVector.fromMemorySegment(F16, ALL, at + 64, ORDER));
            s = v.lanewise(VectorOperators.LSHR, 12)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F16, ALL, at + 128, ORDER), s);
            t = v.lanewise(VectorOperators.LSHR, 8)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F16, ALL, at + 192, ORDER), t);
            s = v.lanewise(VectorOperators.LSHR, 20)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F16, ALL, at + 256, ORDER), s);
            t = v.lanewise(VectorOperators.LSHR, 16)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F16, ALL, at + 320, ORDER), t);
            s = v.lanewise(VectorOperators.LSHR, 28)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F16, ALL, at + 384, ORDER), s);
            t = v.lanewise(VectorOperators.LSHR, 24)
                    .selectFrom(values)
                    .reinterpretAsFloats()
                    .fma(FloatVector.fromMemorySegment(F16, ALL, at + 448, ORDER), t);
            FloatVector scale = FloatVector.broadcast(F16, get(absmax + 4L * (i >> log)))
                    .blend(get(absmax + 4L * (i + 64 >> log)), SECOND_HALF);
            sum = s.add(t).fma(scale, sum);
            at += 512;
            i += left == 2 ? toLast : 128;
            left--;
            if (left == 0) {
                // VectorMath.sum, written out so that nothing here depends on what the compiler inlines
                sum = sum.add(sum.rearrange(VectorMath.BY_8));
                sum = sum.add(sum.rearrange(VectorMath.BY_4));
                sum = sum.add(sum.rearrange(VectorMath.BY_2));
                set(to, sum.add(sum.rearrange(VectorMath.BY_1)).lane(0));
                sum = FloatVector.zero(F16);
                to += 4;
                at = x;
                left = chunks;
            }
        }
    }

    /** {@link Kernels#permute} for {@link #dot}: step t of a chunk of 128 meets, on lane l, element 8·l + t. */
    static void permute(long y, long x, int n) {
        int whole = n & -128;
        for (int chunk = 0; chunk < whole; chunk += 128) {
            permuteLanes(y + 4L * chunk, x + 4L * chunk, 0);
        }
        if (whole < n) {
            // the elements before are met by the chunk before
            permuteLanes(y + 4L * whole, x + 4L * (n - 128), 8);
        }
    }

    private static void permuteLanes(long y, long x, int firstLane) {
        for (int step = 0; step < 8; step++) {
            for (int lane = 0; lane < 16; lane++) {
                set(y + 4L * (16 * step + lane), lane < firstLane ? 0 : get(x + 4L * (8 * lane + step)));
            }
        }
    }
}
