package org.qlora4j.nf4.device.cpu;

import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.LongVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;

/**
 * Vector API loops; one global segment, species in constants, straight-line code, because anything else boxes (facts in
 * ARCHITECTURE.md).
 */
final class VectorKernels implements Kernels {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F = VectorMath.F;
    private static final int L = F.length();
    private static final VectorSpecies<Float> F8 = FloatVector.SPECIES_256;
    private static final VectorSpecies<Integer> I8 = IntVector.SPECIES_256;
    private static final VectorSpecies<Short> S8 = ShortVector.SPECIES_128;

    /** As many doubles and longs as fill a register, and as many floats as there are doubles. */
    private static final VectorSpecies<Double> D = DoubleVector.SPECIES_PREFERRED;

    private static final VectorSpecies<Long> J = LongVector.SPECIES_PREFERRED;
    private static final VectorSpecies<Float> HALF =
            VectorSpecies.of(float.class, VectorShape.forBitSize(F.vectorBitSize() / 2));

    /** Whether a register holds a table of 16 floats. */
    private static final boolean WIDE = L == 16;

    private final ScalarKernels scalar = new ScalarKernels();

    private static FloatVector load(long address) {
        return FloatVector.fromMemorySegment(F, ALL, address, ORDER);
    }

    private static FloatVector load8(long address) {
        return FloatVector.fromMemorySegment(F8, ALL, address, ORDER);
    }

    private static void store(FloatVector v, long address) {
        v.intoMemorySegment(ALL, address, ORDER);
    }

    @Override
    public float dot(long a, long b, int n) {
        FloatVector s0 = FloatVector.zero(F);
        FloatVector s1 = FloatVector.zero(F);
        int i = 0;
        for (; i + 2 * L <= n; i += 2 * L) {
            s0 = load(a + 4L * i).fma(load(b + 4L * i), s0);
            s1 = load(a + 4L * (i + L)).fma(load(b + 4L * (i + L)), s1);
        }
        float s = VectorMath.sum(s0.add(s1));
        for (; i < n; i++) {
            s = Math.fma(get(a + 4L * i), get(b + 4L * i), s);
        }
        return s;
    }

    @Override
    public float dot3(long a, long b, long c, int n) {
        FloatVector s0 = FloatVector.zero(F);
        int i = 0;
        for (; i + L <= n; i += L) {
            s0 = load(a + 4L * i).mul(load(b + 4L * i)).fma(load(c + 4L * i), s0);
        }
        float s = VectorMath.sum(s0);
        for (; i < n; i++) {
            s = Math.fma(get(a + 4L * i) * get(b + 4L * i), get(c + 4L * i), s);
        }
        return s;
    }

    @Override
    public void axpby(long y, float alpha, long x, float beta, int n) {
        int i = 0;
        if (beta == 0) {
            for (; i + L <= n; i += L) {
                store(load(x + 4L * i).mul(alpha), y + 4L * i);
            }
        } else {
            FloatVector b = FloatVector.broadcast(F, beta);
            for (; i + L <= n; i += L) {
                store(b.fma(load(y + 4L * i), load(x + 4L * i).mul(alpha)), y + 4L * i);
            }
        }
        scalar.axpby(y + 4L * i, alpha, x + 4L * i, beta, n - i);
    }

    @Override
    public void productAdd(long y, float beta, long a, long b, int n) {
        int i = 0;
        if (beta == 0) {
            for (; i + L <= n; i += L) {
                store(load(a + 4L * i).mul(load(b + 4L * i)), y + 4L * i);
            }
        } else {
            FloatVector factor = FloatVector.broadcast(F, beta);
            for (; i + L <= n; i += L) {
                store(factor.fma(load(y + 4L * i), load(a + 4L * i).mul(load(b + 4L * i))), y + 4L * i);
            }
        }
        scalar.productAdd(y + 4L * i, beta, a + 4L * i, b + 4L * i, n - i);
    }

    @Override
    public void scaledProduct(long y, float s, long x, long w, int n) {
        int i = 0;
        for (; i + L <= n; i += L) {
            store(load(x + 4L * i).mul(s).mul(load(w + 4L * i)), y + 4L * i);
        }
        scalar.scaledProduct(y + 4L * i, s, x + 4L * i, w + 4L * i, n - i);
    }

    @Override
    public void rmsNormBackward(long dx, long dy, long x, long w, float rstd, float c, float beta, int n) {
        int i = 0;
        if (beta == 0) {
            for (; i + L <= n; i += L) {
                store(normGradient(dy + 4L * i, x + 4L * i, w + 4L * i, rstd, c), dx + 4L * i);
            }
        } else {
            FloatVector b = FloatVector.broadcast(F, beta);
            for (; i + L <= n; i += L) {
                store(
                        b.fma(load(dx + 4L * i), normGradient(dy + 4L * i, x + 4L * i, w + 4L * i, rstd, c)),
                        dx + 4L * i);
            }
        }
        scalar.rmsNormBackward(dx + 4L * i, dy + 4L * i, x + 4L * i, w + 4L * i, rstd, c, beta, n - i);
    }

    private static FloatVector normGradient(long dy, long x, long w, float rstd, float c) {
        return load(dy).mul(load(w)).sub(load(x).mul(c)).mul(rstd);
    }

    @Override
    public float max(long x, int n) {
        int i = 0;
        float m = Float.NEGATIVE_INFINITY;
        if (n >= L) {
            FloatVector v = load(x);
            for (i = L; i + L <= n; i += L) {
                v = v.max(load(x + 4L * i));
            }
            m = v.reduceLanes(VectorOperators.MAX);
        }
        for (; i < n; i++) {
            m = Math.max(m, get(x + 4L * i));
        }
        return m;
    }

    @Override
    public double sum(long x, int n) {
        DoubleVector s0 = DoubleVector.zero(D);
        int lanes = D.length();
        int i = 0;
        for (; i + lanes <= n; i += lanes) {
            s0 = s0.add((DoubleVector) FloatVector.fromMemorySegment(HALF, ALL, x + 4L * i, ORDER)
                    .convertShape(VectorOperators.F2D, D, 0));
        }
        double sum = 0;
        for (int lane = 0; lane < lanes; lane++) {
            sum += s0.lane(lane);
        }
        return sum + scalar.sum(x + 4L * i, n - i);
    }

    @Override
    public void addTo(long y, float c, int n) {
        int i = 0;
        for (; i + L <= n; i += L) {
            store(load(y + 4L * i).add(c), y + 4L * i);
        }
        scalar.addTo(y + 4L * i, c, n - i);
    }

    @Override
    public double exp(long y, long x, float scale, float shift, int n) {
        int whole = n / L * L;
        double sum = ExpVectors.exp(y, x, scale, shift, whole);
        return sum + scalar.exp(y + 4L * whole, x + 4L * whole, scale, shift, n - whole);
    }

    @Override
    public double sumExp(long x, float shift, int n) {
        int whole = n / L * L;
        return ExpVectors.sumExp(x, shift, whole) + scalar.sumExp(x + 4L * whole, shift, n - whole);
    }

    @Override
    public void softmaxBackward(long s, long dp, float lse, float delta, float scale, int n) {
        exp(s, s, scale, lse, n);
        FloatVector d = FloatVector.broadcast(F, delta);
        FloatVector factor = FloatVector.broadcast(F, scale);
        int i = 0;
        for (; i + L <= n; i += L) {
            store(load(dp + 4L * i).sub(d).mul(factor).mul(load(s + 4L * i)), dp + 4L * i);
        }
        for (; i < n; i++) {
            set(dp + 4L * i, (get(dp + 4L * i) - delta) * scale * get(s + 4L * i));
        }
    }

    @Override
    public void swiGlu(long y, long g, long u, int n) {
        long whole = 4L * (n - n % L);
        ExpVectors.swiGlu(y, g, u, n);
        scalar.swiGlu(y + whole, g + whole, u + whole, n % L);
    }

    @Override
    public void swiGluBackward(long dg, long du, long dy, long g, long u, int n) {
        long whole = 4L * (n - n % L);
        ExpVectors.swiGluBackward(dg, du, dy, g, u, n);
        scalar.swiGluBackward(dg + whole, du + whole, dy + whole, g + whole, u + whole, n % L);
    }

    @Override
    public void geGlu(long y, long g, long u, int n) {
        long whole = 4L * (n - n % L);
        GeluVectors.geGlu(y, g, u, n);
        scalar.geGlu(y + whole, g + whole, u + whole, n % L);
    }

    @Override
    public void geGluBackward(long dg, long du, long dy, long g, long u, int n) {
        long whole = 4L * (n - n % L);
        GeluVectors.geGluBackward(dg, du, dy, g, u, n);
        scalar.geGluBackward(dg + whole, du + whole, dy + whole, g + whole, u + whole, n % L);
    }

    @Override
    public void softcap(long y, long x, float scale, float cap, int n) {
        long whole = 4L * (n - n % L);
        GeluVectors.softcap(y, x, scale, cap, n);
        scalar.softcap(y + whole, x + whole, scale, cap, n % L);
    }

    @Override
    public void softcapBackward(long dx, long dy, long y, float scale, float cap, int n) {
        FloatVector one = FloatVector.broadcast(F, 1f);
        FloatVector factor = FloatVector.broadcast(F, 1 / cap);
        int i = 0;
        for (; i + L <= n; i += L) {
            FloatVector t = load(y + 4L * i).mul(factor);
            store(load(dy + 4L * i).mul(scale).mul(t.neg().fma(t, one)), dx + 4L * i);
        }
        scalar.softcapBackward(dx + 4L * i, dy + 4L * i, y + 4L * i, scale, cap, n - i);
    }

    @Override
    public void rotate(long head, long cos, long sin, float sign, int half) {
        if (half % L != 0) {
            scalar.rotate(head, cos, sin, sign, half);
            return;
        }
        long second = head + 4L * half;
        for (int i = 0; i < half; i += L) {
            FloatVector a = load(head + 4L * i);
            FloatVector b = load(second + 4L * i);
            FloatVector c = load(cos + 4L * i);
            FloatVector s = load(sin + 4L * i).mul(sign);
            store(a.mul(c).sub(b.mul(s)), head + 4L * i);
            store(b.mul(c).add(a.mul(s)), second + 4L * i);
        }
    }

    private static FloatVector bf16(long address) {
        return ((IntVector) ShortVector.fromMemorySegment(S8, ALL, address, ORDER)
                        .convertShape(VectorOperators.ZERO_EXTEND_S2I, I8, 0))
                .lanewise(VectorOperators.LSHL, 16)
                .reinterpretAsFloats();
    }

    @Override
    public void widenBf16(long y, long x, int n) {
        int i = 0;
        for (; i + 8 <= n; i += 8) {
            // not by store(): with two vector sizes going through it the compiler would box both
            bf16(x + 2L * i).intoMemorySegment(ALL, y + 4L * i, ORDER);
        }
        scalar.widenBf16(y + 4L * i, x + 2L * i, n - i);
    }

    @Override
    public void decode8(long y, long codes, float absmax, int n) {
        int whole = n & -8;
        Int8Vectors.decode(y, codes, absmax, whole);
        scalar.decode8(y + 4L * whole, codes + whole, absmax, n - whole);
    }

    @Override
    public void dotsInt8(long y, long first, int stride, int rows, long permuted, int n) {
        int whole = Int8Vectors.whole(n);
        Int8Vectors.dots(y, first, stride, rows, permuted, whole);
        for (int r = 0; whole < n && r < rows; r++) {
            float rest = scalar.dotInt8(first + (long) r * stride + whole, permuted + 4L * whole, n - whole);
            set(y + 4L * r, get(y + 4L * r) + rest);
        }
    }

    @Override
    public void permuteInt8(long y, long x, int n) {
        int whole = Int8Vectors.whole(n);
        Int8Vectors.permute(y, x, whole);
        scalar.permuteInt8(y + 4L * whole, x + 4L * whole, n - whole);
    }

    @Override
    public void dotsBf16(long y, long first, int stride, int rows, long permuted, int n) {
        int whole = RowVectors.wholeBf16(n);
        RowVectors.dotsBf16(y, first, stride, rows, permuted, whole);
        for (int r = 0; whole < n && r < rows; r++) {
            float rest = scalar.dotBf16(first + 2L * ((long) r * stride + whole), permuted + 4L * whole, n - whole);
            set(y + 4L * r, get(y + 4L * r) + rest);
        }
    }

    @Override
    public void permuteBf16(long y, long x, int n) {
        int whole = RowVectors.wholeBf16(n);
        RowVectors.permuteBf16(y, x, whole);
        scalar.permuteBf16(y + 4L * whole, x + 4L * whole, n - whole);
    }

    @Override
    public void decode4(long y, long table, long packed, long absmax, int blockSize, int n) {
        if (!WIDE) {
            FourBitVectors.decode(y, table, packed, absmax, blockSize, n);
            return;
        }
        int whole = n & -64;
        FourBitWide.decode(y, table, packed, absmax, blockSize, whole);
        if (whole < n) {
            // the odd block of 32
            FourBitVectors.decode(
                    y + 4L * whole, table, packed + whole / 2, absmax + 4L * (whole / blockSize), blockSize, n - whole);
        }
    }

    @Override
    public void dot4(long y, int rows, long table, long packed, long absmax, int blockSize, long permuted, int n) {
        if (isWide(n)) {
            FourBitWide.dot(y, rows, table, packed, absmax, blockSize, permuted, n);
        } else {
            FourBitVectors.dot(y, rows, table, packed, absmax, blockSize, permuted, n);
        }
    }

    @Override
    public void dots(long y, long x, long first, int stride, int rows, int n) {
        int whole = n - n % L;
        RowVectors.dots(y, x, first, stride, rows, whole);
        for (int r = 0; whole < n && r < rows; r++) {
            float rest = scalar.dot(x + 4L * whole, first + 4L * ((long) r * stride + whole), n - whole);
            set(y + 4L * r, get(y + 4L * r) + rest);
        }
    }

    @Override
    public void weightedSum(long y, long weights, long first, int stride, int rows, int n) {
        int whole = n - n % L;
        RowVectors.weightedSum(y, weights, first, stride, rows, whole);
        scalar.weightedSum(y + 4L * whole, weights, first + 4L * whole, stride, rows, n - whole);
    }

    @Override
    public void permute4(long y, long x, int n) {
        if (isWide(n)) {
            FourBitWide.permute(y, x, n);
        } else {
            scalar.permute4(y, x, n);
        }
    }

    private static boolean isWide(int n) {
        return WIDE && FourBitWide.INDICES_WRAP && n >= 128;
    }

    @Override
    public void narrowBf16(long y, long x, int n) {
        int i = 0;
        for (; i + 8 <= n; i += 8) {
            IntVector bits = load8(x + 4L * i).reinterpretAsInts();
            IntVector high = bits.lanewise(VectorOperators.LSHR, 16);
            IntVector rounded = bits.add(high.and(1)).add(0x7FFF).lanewise(VectorOperators.LSHR, 16);
            // rounding a NaN could carry into the sign or leave infinity
            VectorMask<Integer> nan = bits.and(0x7FFFFFFF).compare(VectorOperators.GT, 0x7F800000);
            ((ShortVector) rounded.blend(high.or(0x40), nan).convertShape(VectorOperators.I2S, S8, 0))
                    .intoMemorySegment(ALL, y + 2L * i, ORDER);
        }
        scalar.narrowBf16(y + 2L * i, x + 4L * i, n - i);
    }

    @Override
    public double sumOfSquares(long x, int n) {
        DoubleVector s0 = DoubleVector.zero(D);
        DoubleVector s1 = DoubleVector.zero(D);
        int lanes = D.length();
        int i = 0;
        for (; i + 2 * lanes <= n; i += 2 * lanes) {
            DoubleVector a = (DoubleVector)
                    FloatVector.fromMemorySegment(HALF, ALL, x + 4L * i, ORDER).convertShape(VectorOperators.F2D, D, 0);
            DoubleVector b = (DoubleVector) FloatVector.fromMemorySegment(HALF, ALL, x + 4L * (i + lanes), ORDER)
                    .convertShape(VectorOperators.F2D, D, 0);
            s0 = a.fma(a, s0);
            s1 = b.fma(b, s1);
        }
        DoubleVector s = s0.add(s1);
        double sum = 0;
        for (int lane = 0; lane < lanes; lane++) {
            sum += s.lane(lane);
        }
        return sum + scalar.sumOfSquares(x + 4L * i, n - i);
    }

    @Override
    public void dropout(long y, long x, float factor, int threshold, long seed, long index, int n) {
        int lanes = J.length();
        LongVector z0 = LongVector.broadcast(J, 1)
                .addIndex(1)
                .add(index)
                .mul(0x9E3779B97F4A7C15L)
                .add(seed);
        FloatVector scale = FloatVector.broadcast(HALF, factor);
        int i = 0;
        for (; i + lanes <= n; i += lanes) {
            LongVector z = z0.lanewise(VectorOperators.XOR, z0.lanewise(VectorOperators.LSHR, 30))
                    .mul(0xBF58476D1CE4E5B9L);
            z = z.lanewise(VectorOperators.XOR, z.lanewise(VectorOperators.LSHR, 27))
                    .mul(0x94D049BB133111EBL);
            z = z.lanewise(VectorOperators.XOR, z.lanewise(VectorOperators.LSHR, 31));
            VectorMask<Float> dropped = z.lanewise(VectorOperators.LSHR, 40)
                    .compare(VectorOperators.LT, threshold)
                    .cast(HALF);
            FloatVector v =
                    FloatVector.fromMemorySegment(HALF, ALL, x + 4L * i, ORDER).mul(scale);
            v.blend(0f, dropped).intoMemorySegment(ALL, y + 4L * i, ORDER);
            z0 = z0.add(lanes * 0x9E3779B97F4A7C15L);
        }
        scalar.dropout(y + 4L * i, x + 4L * i, factor, threshold, seed, index + i, n - i);
    }

    @Override
    public OptimizerKernels optimizers() {
        return new VectorOptimizers();
    }
}
