package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;

/** Vector API loops; one global segment, species in constants, straight-line code, because anything else boxes (facts in ARCHITECTURE.md). */
final class VectorKernels implements Kernels {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F = FloatVector.SPECIES_PREFERRED;
    private static final int L = F.length();
    private static final VectorSpecies<Float> F8 = FloatVector.SPECIES_256;
    private static final VectorSpecies<Integer> I8 = IntVector.SPECIES_256;
    private static final VectorSpecies<Short> S8 = ShortVector.SPECIES_128;

    /** A byte holds its first element in the high nibble: shifts that bring the 8 codes of an int into order. */
    private static final IntVector SHIFTS = IntVector.fromArray(I8, new int[] {4, 0, 12, 8, 20, 16, 28, 24}, 0);

    /** Sums of this many terms stay in fp32 lanes before they go to a double. */
    private static final int CHUNK = 1024;

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
        float s = s0.add(s1).reduceLanes(VectorOperators.ADD);
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
        float s = s0.reduceLanes(VectorOperators.ADD);
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
                store(b.fma(load(dx + 4L * i), normGradient(dy + 4L * i, x + 4L * i, w + 4L * i, rstd, c)), dx + 4L * i);
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
    public double exp(long y, long x, float scale, float shift, int n) {
        double sum = 0;
        FloatVector minus = FloatVector.broadcast(F, -shift);
        FloatVector factor = FloatVector.broadcast(F, scale);
        int i = 0;
        while (i + L <= n) {
            int end = Math.min(n, i + CHUNK);
            FloatVector s = FloatVector.zero(F);
            for (; i + L <= end; i += L) {
                FloatVector e = load(x + 4L * i).fma(factor, minus).lanewise(VectorOperators.EXP);
                store(e, y + 4L * i);
                s = s.add(e);
            }
            sum += s.reduceLanes(VectorOperators.ADD);
        }
        return sum + scalar.exp(y + 4L * i, x + 4L * i, scale, shift, n - i);
    }

    @Override
    public double sumExp(long x, float shift, int n) {
        double sum = 0;
        int i = 0;
        while (i + L <= n) {
            int end = Math.min(n, i + CHUNK);
            FloatVector s = FloatVector.zero(F);
            for (; i + L <= end; i += L) {
                s = s.add(load(x + 4L * i).sub(shift).lanewise(VectorOperators.EXP));
            }
            sum += s.reduceLanes(VectorOperators.ADD);
        }
        return sum + scalar.sumExp(x + 4L * i, shift, n - i);
    }

    @Override
    public void softmaxBackward(long s, long dp, float lse, float delta, float scale, int n) {
        FloatVector minus = FloatVector.broadcast(F, -lse);
        FloatVector factor = FloatVector.broadcast(F, scale);
        int i = 0;
        for (; i + L <= n; i += L) {
            FloatVector p = load(s + 4L * i).fma(factor, minus).lanewise(VectorOperators.EXP);
            store(p, s + 4L * i);
            store(load(dp + 4L * i).sub(delta).mul(factor).mul(p), dp + 4L * i);
        }
        scalar.softmaxBackward(s + 4L * i, dp + 4L * i, lse, delta, scale, n - i);
    }

    @Override
    public void swiGlu(long y, long g, long u, int n) {
        int i = 0;
        for (; i + L <= n; i += L) {
            FloatVector x = load(g + 4L * i);
            FloatVector d = x.neg().lanewise(VectorOperators.EXP).add(1f);
            store(x.div(d).mul(load(u + 4L * i)), y + 4L * i);
        }
        scalar.swiGlu(y + 4L * i, g + 4L * i, u + 4L * i, n - i);
    }

    @Override
    public void swiGluBackward(long dg, long du, long dy, long g, long u, int n) {
        FloatVector one = FloatVector.broadcast(F, 1f);
        int i = 0;
        for (; i + L <= n; i += L) {
            FloatVector x = load(g + 4L * i);
            FloatVector up = load(u + 4L * i);
            FloatVector d = load(dy + 4L * i);
            FloatVector sigmoid = one.div(x.neg().lanewise(VectorOperators.EXP).add(1f));
            store(d.mul(x).mul(sigmoid), du + 4L * i);
            store(d.mul(up).mul(sigmoid).mul(one.sub(sigmoid).fma(x, one)), dg + 4L * i);
        }
        scalar.swiGluBackward(dg + 4L * i, du + 4L * i, dy + 4L * i, g + 4L * i, u + 4L * i, n - i);
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
            store(bf16(x + 2L * i), y + 4L * i);
        }
        scalar.widenBf16(y + 4L * i, x + 2L * i, n - i);
    }

    @Override
    public float dotBf16(long w, long x, int n) {
        FloatVector s0 = FloatVector.zero(F8);
        FloatVector s1 = FloatVector.zero(F8);
        int i = 0;
        for (; i + 16 <= n; i += 16) {
            s0 = bf16(w + 2L * i).fma(load8(x + 4L * i), s0);
            s1 = bf16(w + 2L * (i + 8)).fma(load8(x + 4L * (i + 8)), s1);
        }
        float s = s0.add(s1).reduceLanes(VectorOperators.ADD);
        return i == n ? s : s + scalar.dotBf16(w + 2L * i, x + 4L * i, n - i);
    }

    @Override
    public void decode4(long y, long table, long packed, long absmax, int blockSize, int n) {
        FloatVector low = load8(table);
        FloatVector high = load8(table + 32);
        for (int i = 0; i < n; i += blockSize) {
            float scale = get(absmax + 4L * (i / blockSize));
            decodeBlock(y + 4L * i, packed + (i >> 1), low.mul(scale), high.mul(scale), blockSize);
        }
    }

    private static void decodeBlock(long y, long packed, FloatVector low, FloatVector high, int n) {
        IntVector lo = low.reinterpretAsInts();
        IntVector hi = high.reinterpretAsInts();
        for (int i = 0; i < n; i += 32) {
            decode8(y + 4L * i, packed + (i >> 1), lo, hi);
            decode8(y + 4L * i + 32, packed + (i >> 1) + 4, lo, hi);
            decode8(y + 4L * i + 64, packed + (i >> 1) + 8, lo, hi);
            decode8(y + 4L * i + 96, packed + (i >> 1) + 12, lo, hi);
        }
    }

    private static void decode8(long y, long packed, IntVector lo, IntVector hi) {
        select(IntVector.broadcast(I8, ALL.get(JAVA_INT_UNALIGNED, packed)).lanewise(VectorOperators.LSHR, SHIFTS), lo, hi)
                .intoMemorySegment(ALL, y, ORDER);
    }

    /** Entry (codes & 15) of the 16-entry table whose halves are lo and hi. */
    private static IntVector select(IntVector codes, IntVector lo, IntVector hi) {
        VectorMask<Integer> upper = codes.lanewise(VectorOperators.LSHL, 28).compare(VectorOperators.LT, 0);
        IntVector index = codes.and(7);
        return index.selectFrom(lo).blend(index.selectFrom(hi), upper);
    }

    @Override
    public float dot4(long table, long packed, long absmax, int blockSize, long permuted, int n) {
        IntVector lo = load8(table).reinterpretAsInts();
        IntVector hi = load8(table + 32).reinterpretAsInts();
        int log = Integer.numberOfTrailingZeros(blockSize);
        FloatVector sum = FloatVector.zero(F8);
        for (int i = 0; i < n; i += 64) {
            IntVector codes = IntVector.fromMemorySegment(I8, ALL, packed + (i >> 1), ORDER);
            long x = permuted + 4L * i;
            FloatVector s = select(codes.lanewise(VectorOperators.LSHR, 4), lo, hi).reinterpretAsFloats().mul(load8(x));
            FloatVector t = select(codes, lo, hi).reinterpretAsFloats().mul(load8(x + 32));
            s = select(codes.lanewise(VectorOperators.LSHR, 12), lo, hi).reinterpretAsFloats().fma(load8(x + 64), s);
            t = select(codes.lanewise(VectorOperators.LSHR, 8), lo, hi).reinterpretAsFloats().fma(load8(x + 96), t);
            s = select(codes.lanewise(VectorOperators.LSHR, 20), lo, hi).reinterpretAsFloats().fma(load8(x + 128), s);
            t = select(codes.lanewise(VectorOperators.LSHR, 16), lo, hi).reinterpretAsFloats().fma(load8(x + 160), t);
            s = select(codes.lanewise(VectorOperators.LSHR, 28), lo, hi).reinterpretAsFloats().fma(load8(x + 192), s);
            t = select(codes.lanewise(VectorOperators.LSHR, 24), lo, hi).reinterpretAsFloats().fma(load8(x + 224), t);
            sum = s.add(t).fma(FloatVector.broadcast(F8, get(absmax + 4L * (i >> log))), sum);
        }
        return sum.reduceLanes(VectorOperators.ADD);
    }

    @Override
    public void permute(long y, long x, int n) {
        scalar.permute(y, x, n);
    }

    /** For tests: the number of fp32 lanes. */
    static int lanes() {
        return L;
    }
}
