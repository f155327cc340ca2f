package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.HostMemory;

/** Plain loops, and the control of {@link VectorOptimizers}. */
final class ScalarOptimizers implements OptimizerKernels {
    private static final MemorySegment ALL = HostMemory.ALL;

    @Override
    public void adamW(long p, long g, long m, long v, OptimizerFactors f, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float gradient = get(g + i) * f.gradientScale();
            float old = get(m + i);
            float mean = old + f.take1() * (gradient - old);
            float variance = f.keep2() * get(v + i) + f.take2() * gradient * gradient;
            set(m + i, mean);
            set(v + i, variance);
            float denominator = (float) Math.sqrt(variance) / f.rootOfCorrection2() + f.epsilon();
            float updated = get(p + i) * f.decayBefore() - f.stepSize() * mean / denominator;
            set(p + i, updated * f.decayAfter());
        }
    }

    @Override
    public void adEmaMix(long p, long g, long m1, long m2, long v, OptimizerFactors f, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float gradient = get(g + i) * f.gradientScale();
            float fast = f.keep1() * get(m1 + i) + f.take1() * gradient;
            float slow = f.keep3() * get(m2 + i) + f.take3() * gradient;
            float variance = f.keep2() * get(v + i) + f.take2() * gradient * gradient;
            set(m1 + i, fast);
            set(m2 + i, slow);
            set(v + i, variance);
            float numerator = fast / f.correction1() + f.alpha() * slow;
            float denominator = (float) Math.sqrt(variance) / f.rootOfCorrection2() + f.epsilon();
            float updated = get(p + i) * f.decayBefore() - f.stepSize() * numerator / denominator;
            set(p + i, updated * f.decayAfter());
        }
    }

    @Override
    public void lion(long p, long g, long m, OptimizerFactors f, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float gradient = get(g + i) * f.gradientScale();
            float old = get(m + i);
            float direction = Math.signum(f.keep1() * old + f.take1() * gradient);
            set(p + i, get(p + i) * f.decayBefore() - f.stepSize() * direction);
            set(m + i, f.keep2() * old + f.take2() * gradient);
        }
    }

    @Override
    public void momentum(long p, long g, long m, OptimizerFactors f, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float parameter = get(p + i);
            float gradient = get(g + i) * f.gradientScale() + f.gradientDecay() * parameter;
            float moving = f.keep1() * get(m + i) + gradient;
            set(m + i, moving);
            set(p + i, parameter - f.stepSize() * moving);
        }
    }

    @Override
    public void rootMeanSquare(long p, long g, long v, OptimizerFactors f, int n) {
        for (long i = 0; i < 4L * n; i += 4) {
            float parameter = get(p + i);
            float gradient = get(g + i) * f.gradientScale();
            float decayed = gradient + f.gradientDecay() * parameter;
            float variance = f.keep1() * get(v + i) + f.take1() * decayed * decayed;
            set(v + i, variance);
            float numerator = gradient + f.updateDecay() * parameter;
            float denominator = (float) Math.sqrt(variance) + f.epsilon();
            set(p + i, parameter - f.stepSize() * numerator / denominator);
        }
    }

    @Override
    public void decode8(long y, long codes, float absmax, DynamicCodes map, int[] scratch, int n) {
        for (int i = 0; i < n; i++) {
            set(y + 4L * i, map.value(ALL.get(JAVA_BYTE, codes + i)) * absmax);
        }
    }

    @Override
    public float encode8(long codes, long x, DynamicCodes map, int[] scratch, int n) {
        float absmax = 0;
        for (int i = 0; i < n; i++) {
            absmax = Math.max(absmax, Math.abs(get(x + 4L * i)));
        }
        for (int i = 0; i < n; i++) {
            ALL.set(JAVA_BYTE, codes + i, map.code(get(x + 4L * i), absmax));
        }
        return absmax;
    }
}
