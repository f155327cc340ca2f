package org.qlora4j.nf4.device.cpu;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;

/** Vector API loops, written as those of {@link VectorKernels}. */
final class VectorOptimizers implements OptimizerKernels {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F = VectorMath.F;
    private static final int L = F.length();
    private static final VectorSpecies<Integer> I = VectorMath.I;

    /** As many bytes as there are floats. */
    private static final VectorSpecies<Byte> B =
            VectorSpecies.of(byte.class, VectorShape.forBitSize(F.vectorBitSize() / 4));

    private final ScalarOptimizers scalar = new ScalarOptimizers();

    private static FloatVector load(long address) {
        return FloatVector.fromMemorySegment(F, ALL, address, ORDER);
    }

    private static void store(FloatVector v, long address) {
        v.intoMemorySegment(ALL, address, ORDER);
    }

    private static FloatVector all(float value) {
        return FloatVector.broadcast(F, value);
    }

    @Override
    public void adamW(long p, long g, long m, long v, OptimizerFactors f, int n) {
        FloatVector scale = all(f.gradientScale());
        FloatVector before = all(f.decayBefore());
        FloatVector after = all(f.decayAfter());
        FloatVector take1 = all(f.take1());
        FloatVector keep2 = all(f.keep2());
        FloatVector take2 = all(f.take2());
        FloatVector stepSize = all(f.stepSize());
        FloatVector root = all(f.rootOfCorrection2());
        FloatVector epsilon = all(f.epsilon());
        long end = 4L * (n - n % L);
        for (long i = 0; i < end; i += 4L * L) {
            FloatVector gradient = load(g + i).mul(scale);
            FloatVector old = load(m + i);
            FloatVector mean = old.add(take1.mul(gradient.sub(old)));
            FloatVector variance =
                    keep2.mul(load(v + i)).add(take2.mul(gradient).mul(gradient));
            store(mean, m + i);
            store(variance, v + i);
            FloatVector denominator =
                    variance.lanewise(VectorOperators.SQRT).div(root).add(epsilon);
            FloatVector updated = load(p + i).mul(before).sub(stepSize.mul(mean).div(denominator));
            store(updated.mul(after), p + i);
        }
        scalar.adamW(p + end, g + end, m + end, v + end, f, n % L);
    }

    @Override
    public void adEmaMix(long p, long g, long m1, long m2, long v, OptimizerFactors f, int n) {
        FloatVector scale = all(f.gradientScale());
        FloatVector keep1 = all(f.keep1());
        FloatVector take1 = all(f.take1());
        FloatVector keep2 = all(f.keep2());
        FloatVector take2 = all(f.take2());
        FloatVector keep3 = all(f.keep3());
        FloatVector take3 = all(f.take3());
        FloatVector stepSize = all(f.stepSize());
        FloatVector root = all(f.rootOfCorrection2());
        FloatVector epsilon = all(f.epsilon());
        long end = 4L * (n - n % L);
        for (long i = 0; i < end; i += 4L * L) {
            FloatVector gradient = load(g + i).mul(scale);
            FloatVector fast = keep1.mul(load(m1 + i)).add(take1.mul(gradient));
            FloatVector slow = keep3.mul(load(m2 + i)).add(take3.mul(gradient));
            FloatVector variance =
                    keep2.mul(load(v + i)).add(take2.mul(gradient).mul(gradient));
            store(fast, m1 + i);
            store(slow, m2 + i);
            store(variance, v + i);
            FloatVector numerator = fast.div(f.correction1()).add(slow.mul(f.alpha()));
            FloatVector denominator =
                    variance.lanewise(VectorOperators.SQRT).div(root).add(epsilon);
            FloatVector updated =
                    load(p + i).mul(f.decayBefore()).sub(stepSize.mul(numerator).div(denominator));
            store(updated.mul(f.decayAfter()), p + i);
        }
        scalar.adEmaMix(p + end, g + end, m1 + end, m2 + end, v + end, f, n % L);
    }

    @Override
    public void lion(long p, long g, long m, OptimizerFactors f, int n) {
        FloatVector scale = all(f.gradientScale());
        FloatVector decay = all(f.decayBefore());
        FloatVector keep1 = all(f.keep1());
        FloatVector take1 = all(f.take1());
        FloatVector keep2 = all(f.keep2());
        FloatVector take2 = all(f.take2());
        FloatVector zero = all(0);
        FloatVector up = all(f.stepSize());
        FloatVector down = all(-f.stepSize());
        long end = 4L * (n - n % L);
        for (long i = 0; i < end; i += 4L * L) {
            FloatVector gradient = load(g + i).mul(scale);
            FloatVector old = load(m + i);
            FloatVector direction = keep1.mul(old).add(take1.mul(gradient));
            VectorMask<Float> positive = direction.compare(VectorOperators.GT, zero);
            VectorMask<Float> negative = direction.compare(VectorOperators.LT, zero);
            FloatVector change = zero.blend(up, positive).blend(down, negative);
            store(load(p + i).mul(decay).sub(change), p + i);
            store(keep2.mul(old).add(take2.mul(gradient)), m + i);
        }
        scalar.lion(p + end, g + end, m + end, f, n % L);
    }

    @Override
    public void momentum(long p, long g, long m, OptimizerFactors f, int n) {
        FloatVector scale = all(f.gradientScale());
        FloatVector decay = all(f.gradientDecay());
        FloatVector keep = all(f.keep1());
        FloatVector stepSize = all(f.stepSize());
        long end = 4L * (n - n % L);
        for (long i = 0; i < end; i += 4L * L) {
            FloatVector parameter = load(p + i);
            FloatVector gradient = load(g + i).mul(scale).add(decay.mul(parameter));
            FloatVector moving = keep.mul(load(m + i)).add(gradient);
            store(moving, m + i);
            store(parameter.sub(stepSize.mul(moving)), p + i);
        }
        scalar.momentum(p + end, g + end, m + end, f, n % L);
    }

    @Override
    public void rootMeanSquare(long p, long g, long v, OptimizerFactors f, int n) {
        FloatVector scale = all(f.gradientScale());
        FloatVector stateDecay = all(f.gradientDecay());
        FloatVector updateDecay = all(f.updateDecay());
        FloatVector keep = all(f.keep1());
        FloatVector take = all(f.take1());
        FloatVector stepSize = all(f.stepSize());
        FloatVector epsilon = all(f.epsilon());
        long end = 4L * (n - n % L);
        for (long i = 0; i < end; i += 4L * L) {
            FloatVector parameter = load(p + i);
            FloatVector gradient = load(g + i).mul(scale);
            FloatVector decayed = gradient.add(stateDecay.mul(parameter));
            FloatVector variance = keep.mul(load(v + i)).add(take.mul(decayed).mul(decayed));
            store(variance, v + i);
            FloatVector numerator = gradient.add(updateDecay.mul(parameter));
            FloatVector denominator = variance.lanewise(VectorOperators.SQRT).add(epsilon);
            store(parameter.sub(stepSize.mul(numerator).div(denominator)), p + i);
        }
        scalar.rootMeanSquare(p + end, g + end, v + end, f, n % L);
    }

    @Override
    public void decode8(long y, long codes, float absmax, DynamicCodes map, int[] scratch, int n) {
        float[] values = map.values();
        int whole = n - n % L;
        for (int i = 0; i < whole; i += L) {
            ((IntVector) ByteVector.fromMemorySegment(B, ALL, codes + i, ORDER)
                            .convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0))
                    .intoArray(scratch, i);
        }
        for (int i = 0; i < whole; i += L) {
            store(FloatVector.fromArray(F, values, 0, scratch, i).mul(absmax), y + 4L * i);
        }
        scalar.decode8(y + 4L * whole, codes + whole, absmax, map, scratch, n - whole);
    }

    @Override
    public float encode8(long codes, long x, DynamicCodes map, int[] scratch, int n) {
        if (!map.isNearest() || n % L != 0) {
            return scalar.encode8(codes, x, map, scratch, n);
        }
        FloatVector largest = FloatVector.zero(F);
        for (int i = 0; i < n; i += L) {
            largest = largest.max(load(x + 4L * i).abs());
        }
        float absmax = largest.reduceLanes(VectorOperators.MAX);
        if (absmax == 0) {
            return scalar.encode8(codes, x, map, scratch, n);
        }
        IntVector zero = IntVector.zero(I);
        for (int i = 0; i < n; i += L) {
            IntVector bits = load(x + 4L * i).div(absmax).reinterpretAsInts();
            IntVector bucket = bits.and(0x7FFF_FFFF)
                    .lanewise(VectorOperators.LSHR, 16)
                    .sub(DynamicCodes.FIRST_BUCKET)
                    .max(0)
                    .min(DynamicCodes.BUCKETS - 1);
            VectorMask<Integer> negative = bits.compare(VectorOperators.LT, zero);
            bucket.add(DynamicCodes.BUCKETS, negative).intoArray(scratch, i);
        }
        int[] entries = map.entries();
        for (int i = 0; i < n; i += L) {
            IntVector bits = load(x + 4L * i).div(absmax).reinterpretAsInts();
            IntVector entry = IntVector.fromArray(I, entries, 0, scratch, i);
            IntVector direction = bits.lanewise(VectorOperators.ASHR, 31).or(1);
            VectorMask<Integer> behind = bits.and(0xFFFF).compare(VectorOperators.GT, entry.and(0xFFFF));
            ((ByteVector) entry.lanewise(VectorOperators.LSHR, 16)
                            .add(direction, behind)
                            .convertShape(VectorOperators.I2B, B, 0))
                    .intoMemorySegment(ALL, codes + i, ORDER);
        }
        return absmax;
    }
}
