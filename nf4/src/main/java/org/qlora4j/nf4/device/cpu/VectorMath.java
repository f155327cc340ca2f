package org.qlora4j.nf4.device.cpu;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/**
 * The functions of vectors whose bits the JDK leaves open. {@code reduceLanes(ADD)} and {@code lanewise(EXP)} give
 * other bits once the loop around them is compiled, so that a training run would depend on when that happens; these are
 * made of operations that round one way only.
 */
final class VectorMath {
    static final VectorSpecies<Float> F = FloatVector.SPECIES_PREFERRED;

    private static final VectorShuffle<Float> BY_8 = rotation(F, 8);
    private static final VectorShuffle<Float> BY_4 = rotation(F, 4);
    private static final VectorShuffle<Float> BY_2 = rotation(F, 2);
    private static final VectorShuffle<Float> BY_1 = rotation(F, 1);

    private static final VectorShuffle<Float> OF_8_BY_4 = rotation(FloatVector.SPECIES_256, 4);
    private static final VectorShuffle<Float> OF_8_BY_2 = rotation(FloatVector.SPECIES_256, 2);
    private static final VectorShuffle<Float> OF_8_BY_1 = rotation(FloatVector.SPECIES_256, 1);

    private VectorMath() {}

    private static VectorShuffle<Float> rotation(VectorSpecies<Float> species, int by) {
        int lanes = species.length();
        return VectorShuffle.fromOp(species, i -> (i + by) % lanes);
    }

    /** Sum of the lanes, halves folded onto each other. */
    static float sum(FloatVector v) {
        FloatVector s = v;
        if (F.length() > 8) {
            s = s.add(s.rearrange(BY_8));
        }
        if (F.length() > 4) {
            s = s.add(s.rearrange(BY_4));
        }
        s = s.add(s.rearrange(BY_2));
        return s.add(s.rearrange(BY_1)).lane(0);
    }

    /** As {@link #sum} for 8 lanes. */
    static float sum8(FloatVector v) {
        FloatVector s = v.add(v.rearrange(OF_8_BY_4));
        s = s.add(s.rearrange(OF_8_BY_2));
        return s.add(s.rearrange(OF_8_BY_1)).lane(0);
    }

    /** {@link ScalarKernels#exp} in lanes, the same bits. */
    static FloatVector exp(FloatVector x) {
        // two blends are cheaper than min and max, which must order zeros and NaN
        FloatVector v = x.blend(ScalarKernels.EXP_LIMIT, x.compare(VectorOperators.GT, ScalarKernels.EXP_LIMIT));
        v = v.blend(-ScalarKernels.EXP_LIMIT, v.compare(VectorOperators.LT, -ScalarKernels.EXP_LIMIT));
        FloatVector shifted =
                v.fma(FloatVector.broadcast(F, ScalarKernels.LOG2_E), FloatVector.broadcast(F, ScalarKernels.ROUNDER));
        FloatVector n = shifted.sub(ScalarKernels.ROUNDER);
        FloatVector r = n.fma(FloatVector.broadcast(F, -ScalarKernels.LN2_HIGH), v);
        r = n.fma(FloatVector.broadcast(F, -ScalarKernels.LN2_LOW), r);
        FloatVector p = FloatVector.broadcast(F, ScalarKernels.P0).fma(r, FloatVector.broadcast(F, ScalarKernels.P1));
        p = p.fma(r, FloatVector.broadcast(F, ScalarKernels.P2));
        p = p.fma(r, FloatVector.broadcast(F, ScalarKernels.P3));
        p = p.fma(r, FloatVector.broadcast(F, ScalarKernels.P4));
        p = p.fma(r, FloatVector.broadcast(F, ScalarKernels.P5));
        p = p.fma(r.mul(r), r.add(1f));
        // the shift drops all of ROUNDER's bits, so that they need no subtraction
        IntVector power = shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
        return p.reinterpretAsInts().add(power).reinterpretAsFloats();
    }
}
