package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;

import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.device.Dropout;
import org.qlora4j.nf4.device.HostElements;
import org.qlora4j.nf4.weight.Weight;

/** Plain loops, for JVMs without the Vector API module and as the control of {@link VectorKernels}. */
final class ScalarKernels implements Kernels {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final int LANES = 8;

    /** Above this e^x is more than the largest float, below its negative it is denormal. */
    static final float EXP_LIMIT = 87.3f;

    static final float LOG2_E = 1.44269504f;

    /** 1.5·2^23: adding it rounds to an integer, which then lies in the low bits. */
    static final float ROUNDER = 12582912f;

    static final int ROUNDER_BITS = 0x4B400000;

    // ln 2 in two parts, the first exact in few bits (Cody and Waite 1980)
    static final float LN2_HIGH = 0.693359375f;
    static final float LN2_LOW = -2.12194440e-4f;

    // minimax polynomial of e^r on ±ln2/2 (Cephes expf)
    static final float P0 = 1.9875691500e-4f;
    static final float P1 = 1.3981999507e-3f;
    static final float P2 = 8.3334519073e-3f;
    static final float P3 = 4.1665795894e-2f;
    static final float P4 = 1.6666665459e-1f;
    static final float P5 = 5.0000001201e-1f;

    // Cephes tanhf below TANH_SMALL
    static final float TANH_SMALL = 0.625f;
    static final float T0 = -5.70498872745e-3f;
    static final float T1 = 2.06390887954e-2f;
    static final float T2 = -5.37397155531e-2f;
    static final float T3 = 1.33314422036e-1f;
    static final float T4 = -3.33332819422e-1f;

    // (1 + tanh v)/2 is sigmoid(2v), so gelu(x) = x · sigmoid(x · (GELU_SLOPE + GELU_CUBE·x²))
    static final float GELU_SLOPE = (float) (2 * Math.sqrt(2 / Math.PI));
    static final float GELU_CUBE = (float) (2 * Math.sqrt(2 / Math.PI) * 0.044715);

    /**
     * e^x in fp32, relative error below 2e-7. Written with products and sums only, because the intrinsic of
     * VectorOperators.EXP and its interpreted twin differ in the last bit: a run would change its bits when the
     * compiler wakes up.
     */
    static float exp(float x) {
        float v = Math.max(-EXP_LIMIT, Math.min(EXP_LIMIT, x));
        float shifted = Math.fma(v, LOG2_E, ROUNDER);
        float n = shifted - ROUNDER;
        float r = Math.fma(n, -LN2_LOW, Math.fma(n, -LN2_HIGH, v));
        float p = Math.fma(P0, r, P1);
        p = Math.fma(p, r, P2);
        p = Math.fma(p, r, P3);
        p = Math.fma(p, r, P4);
        p = Math.fma(p, r, P5);
        p = Math.fma(p, r * r, r + 1);
        return Float.intBitsToFloat(
                Float.floatToRawIntBits(p) + (Float.floatToRawIntBits(shifted) - ROUNDER_BITS << 23));
    }

    /** tanh in fp32: a polynomial where 1 − e^-2x would cancel (Cephes tanhf), e^2x elsewhere. */
    static float tanh(float x) {
        float z = x * x;
        float p = Math.fma(T0, z, T1);
        p = Math.fma(p, z, T2);
        p = Math.fma(p, z, T3);
        p = Math.fma(p, z, T4);
        float small = Math.fma(p * z, x, x);
        float a = Math.abs(x);
        float large = Math.copySign(1 - 2 / (exp(2 * a) + 1), x);
        return a < TANH_SMALL ? small : large;
    }

    static float get(long address) {
        return ALL.get(JAVA_FLOAT_UNALIGNED, address);
    }

    static void set(long address, float value) {
        ALL.set(JAVA_FLOAT_UNALIGNED, address, value);
    }

    @Override
    public float dot(long a, long b, int n) {
        float[] sums = new float[LANES];
        for (int i = 0; i < n; i++) {
            sums[i % LANES] = Math.fma(get(a + 4L * i), get(b + 4L * i), sums[i % LANES]);
        }
        return sum(sums);
    }

    @Override
    public float dot3(long a, long b, long c, int n) {
        float[] sums = new float[LANES];
        for (int i = 0; i < n; i++) {
            sums[i % LANES] = Math.fma(get(a + 4L * i) * get(b + 4L * i), get(c + 4L * i), sums[i % LANES]);
        }
        return sum(sums);
    }

    private static float sum(float[] sums) {
        float s = 0;
        for (float v : sums) {
            s += v;
        }
        return s;
    }

    @Override
    public void axpby(long y, float alpha, long x, float beta, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float v = alpha * get(x + i);
            set(y + i, beta == 0 ? v : Math.fma(beta, get(y + i), v));
        }
    }

    @Override
    public void productAdd(long y, float beta, long a, long b, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float v = get(a + i) * get(b + i);
            set(y + i, beta == 0 ? v : Math.fma(beta, get(y + i), v));
        }
    }

    @Override
    public void scaledProduct(long y, float s, long x, long w, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            set(y + i, get(x + i) * s * get(w + i));
        }
    }

    @Override
    public void rmsNormBackward(long dx, long dy, long x, long w, float rstd, float c, float beta, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float v = rstd * (get(dy + i) * get(w + i) - get(x + i) * c);
            set(dx + i, beta == 0 ? v : Math.fma(beta, get(dx + i), v));
        }
    }

    @Override
    public float max(long x, int n) {
        float m = Float.NEGATIVE_INFINITY;
        for (long i = 0; i < 4L * n; i += 4) {
            m = Math.max(m, get(x + i));
        }
        return m;
    }

    @Override
    public double sum(long x, int n) {
        double s = 0;
        for (long i = 0; i < 4L * n; i += 4) {
            s += get(x + i);
        }
        return s;
    }

    @Override
    public void addTo(long y, float c, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            set(y + i, get(y + i) + c);
        }
    }

    @Override
    public double exp(long y, long x, float scale, float shift, int n) {
        double s = 0;
        for (long i = 0; i < 4L * n; i += 4) {
            float e = exp(Math.fma(get(x + i), scale, -shift));
            set(y + i, e);
            s += e;
        }
        return s;
    }

    @Override
    public double sumExp(long x, float shift, int n) {
        double s = 0;
        for (long i = 0; i < 4L * n; i += 4) {
            s += exp(get(x + i) - shift);
        }
        return s;
    }

    @Override
    public void softmaxBackward(long s, long dp, float lse, float delta, float scale, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float p = exp(Math.fma(get(s + i), scale, -lse));
            set(s + i, p);
            set(dp + i, (get(dp + i) - delta) * scale * p);
        }
    }

    @Override
    public void swiGlu(long y, long g, long u, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float x = get(g + i);
            set(y + i, x / (1 + exp(-x)) * get(u + i));
        }
    }

    @Override
    public void swiGluBackward(long dg, long du, long dy, long g, long u, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float x = get(g + i);
            float up = get(u + i);
            float d = get(dy + i);
            float e = exp(-x);
            float sigmoid = 1 / (1 + e);
            set(du + i, d * x * sigmoid);
            // e·sigmoid is 1 - sigmoid without the cancellation
            set(dg + i, d * up * sigmoid * Math.fma(x, e * sigmoid, 1));
        }
    }

    @Override
    public void geGlu(long y, long g, long u, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float x = get(g + i);
            float e = exp(-x * Math.fma(x * x, GELU_CUBE, GELU_SLOPE));
            set(y + i, x / (1 + e) * get(u + i));
        }
    }

    @Override
    public void geGluBackward(long dg, long du, long dy, long g, long u, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float x = get(g + i);
            float up = get(u + i);
            float d = get(dy + i);
            float e = exp(-x * Math.fma(x * x, GELU_CUBE, GELU_SLOPE));
            float sigmoid = 1 / (1 + e);
            float inner = x * Math.fma(x * x, 3 * GELU_CUBE, GELU_SLOPE);
            set(du + i, d * x * sigmoid);
            // e·sigmoid is 1 - sigmoid without the cancellation
            set(dg + i, d * up * sigmoid * Math.fma(inner, e * sigmoid, 1));
        }
    }

    @Override
    public void softcap(long y, long x, float scale, float cap, int n) {
        float factor = scale / cap;
        for (long i = 0; i < 4L * n; i += 4) {
            set(y + i, tanh(get(x + i) * factor) * cap);
        }
    }

    @Override
    public void softcapBackward(long dx, long dy, long y, float scale, float cap, int n) {
        float factor = 1 / cap;
        for (long i = 0; i < 4L * n; i += 4) {
            float t = get(y + i) * factor;
            set(dx + i, get(dy + i) * scale * Math.fma(-t, t, 1));
        }
    }

    @Override
    public void rotate(long head, long cos, long sin, float sign, int half) {
        for (long i = 0; i < 4L * half; i += 4) {
            float a = get(head + i);
            float b = get(head + 4L * half + i);
            float c = get(cos + i);
            float s = sign * get(sin + i);
            set(head + i, a * c - b * s);
            set(head + 4L * half + i, b * c + a * s);
        }
    }

    @Override
    public void widenBf16(long y, long x, int n) {
        for (int i = 0; i < n; i++) {
            set(y + 4L * i, Float.intBitsToFloat(ALL.get(JAVA_SHORT_UNALIGNED, x + 2L * i) << 16));
        }
    }

    @Override
    public void narrowBf16(long y, long x, int n) {
        for (int i = 0; i < n; i++) {
            ALL.set(JAVA_SHORT_UNALIGNED, y + 2L * i, HostElements.floatToBf16(get(x + 4L * i)));
        }
    }

    @Override
    public double sumOfSquares(long x, int n) {
        double s = 0;
        for (long i = 0; i < 4L * n; i += 4) {
            double v = get(x + i);
            s += v * v;
        }
        return s;
    }

    @Override
    public void dropout(long y, long x, float factor, int threshold, long seed, long index, int n) {
        for (int i = 0; i < n; i++) {
            set(y + 4L * i, Dropout.keeps(seed, index + i, threshold) ? get(x + 4L * i) * factor : 0);
        }
    }

    @Override
    public OptimizerKernels optimizers() {
        return new ScalarOptimizers();
    }

    @Override
    public void decode8(long y, long codes, float absmax, int n) {
        for (int i = 0; i < n; i++) {
            set(y + 4L * i, Weight.Int8.decode(ALL.get(JAVA_BYTE, codes + i), absmax));
        }
    }

    @Override
    public void dotsInt8(long y, long first, int stride, int rows, long permuted, int n) {
        for (int r = 0; r < rows; r++) {
            set(y + 4L * r, dotInt8(first + (long) r * stride, permuted, n));
        }
    }

    @Override
    public void permuteInt8(long y, long x, int n) {
        MemorySegment.copy(ALL, x, ALL, y, 4L * n);
    }

    float dotInt8(long codes, long x, int n) {
        float[] sums = new float[LANES];
        for (int i = 0; i < n; i++) {
            sums[i % LANES] = Math.fma(ALL.get(JAVA_BYTE, codes + i), get(x + 4L * i), sums[i % LANES]);
        }
        return sum(sums);
    }

    @Override
    public void dotsBf16(long y, long first, int stride, int rows, long permuted, int n) {
        for (int r = 0; r < rows; r++) {
            set(y + 4L * r, dotBf16(first + 2L * r * stride, permuted, n));
        }
    }

    @Override
    public void permuteBf16(long y, long x, int n) {
        MemorySegment.copy(ALL, x, ALL, y, 4L * n);
    }

    float dotBf16(long w, long x, int n) {
        float[] sums = new float[LANES];
        for (int i = 0; i < n; i++) {
            float v = Float.intBitsToFloat(ALL.get(JAVA_SHORT_UNALIGNED, w + 2L * i) << 16);
            sums[i % LANES] = Math.fma(v, get(x + 4L * i), sums[i % LANES]);
        }
        return sum(sums);
    }

    @Override
    public void decode4(long y, long table, long packed, long absmax, int blockSize, int n) {
        for (int i = 0; i < n; i++) {
            set(y + 4L * i, get(table + 4L * nibble(packed, i)) * get(absmax + 4L * (i / blockSize)));
        }
    }

    /** The code of element i. */
    static int nibble(long packed, long i) {
        byte b = ALL.get(JAVA_BYTE, packed + (i >> 1));
        return (i & 1) == 0 ? (b >> 4) & 15 : b & 15;
    }

    @Override
    public void dot4(long y, int rows, long table, long packed, long absmax, int blockSize, long permuted, int n) {
        for (int r = 0; r < rows; r++) {
            set(
                    y + 4L * r,
                    dot4(table, packed + (long) r * n / 2, absmax + 4L * r * (n / blockSize), blockSize, permuted, n));
        }
    }

    private static float dot4(long table, long packed, long absmax, int blockSize, long permuted, int n) {
        float sum = 0;
        for (int chunk = 0; chunk < n; chunk += 64) {
            float s = 0;
            for (int j = 0; j < 8; j++) {
                for (int lane = 0; lane < 8; lane++) {
                    float w = get(table + 4L * nibble(packed, chunk + 8L * lane + j));
                    s = Math.fma(w, get(permuted + 4L * (chunk + 8 * j + lane)), s);
                }
            }
            sum = Math.fma(s, get(absmax + 4L * (chunk / blockSize)), sum);
        }
        return sum;
    }

    @Override
    public void dots(long y, long x, long first, int stride, int rows, int n) {
        for (int r = 0; r < rows; r++) {
            set(y + 4L * r, dot(x, first + 4L * r * stride, n));
        }
    }

    @Override
    public void weightedSum(long y, long weights, long first, int stride, int rows, int n) {
        for (int i = 0; i < n; i++) {
            float sum = 0;
            for (int r = 0; r < rows; r++) {
                sum = Math.fma(get(weights + 4L * r), get(first + 4L * ((long) r * stride + i)), sum);
            }
            set(y + 4L * i, sum);
        }
    }

    @Override
    public void permute4(long y, long x, int n) {
        for (int chunk = 0; chunk < n; chunk += 64) {
            for (int j = 0; j < 8; j++) {
                for (int lane = 0; lane < 8; lane++) {
                    set(y + 4L * (chunk + 8 * j + lane), get(x + 4L * (chunk + 8 * lane + j)));
                }
            }
        }
    }
}
