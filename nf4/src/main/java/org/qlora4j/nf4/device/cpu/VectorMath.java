package org.qlora4j.nf4.device.cpu;

import jdk.incubator.vector.FloatVector;
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

    // As constants and not made in exp: every call in there counts against what the compiler inlines into a loop, and
    // beyond that each vector
    // becomes an object.
    static final FloatVector ONE = FloatVector.broadcast(F, 1f);
    private static final FloatVector HIGHEST = FloatVector.broadcast(F, ScalarKernels.EXP_LIMIT);
    private static final FloatVector LOWEST = FloatVector.broadcast(F, -ScalarKernels.EXP_LIMIT);
    private static final FloatVector LOG2_E = FloatVector.broadcast(F, ScalarKernels.LOG2_E);
    private static final FloatVector ROUNDER = FloatVector.broadcast(F, ScalarKernels.ROUNDER);
    private static final FloatVector MINUS_LN2_HIGH = FloatVector.broadcast(F, -ScalarKernels.LN2_HIGH);
    private static final FloatVector MINUS_LN2_LOW = FloatVector.broadcast(F, -ScalarKernels.LN2_LOW);
    private static final FloatVector P0 = FloatVector.broadcast(F, ScalarKernels.P0);
    private static final FloatVector P1 = FloatVector.broadcast(F, ScalarKernels.P1);
    private static final FloatVector P2 = FloatVector.broadcast(F, ScalarKernels.P2);
    private static final FloatVector P3 = FloatVector.broadcast(F, ScalarKernels.P3);
    private static final FloatVector P4 = FloatVector.broadcast(F, ScalarKernels.P4);
    private static final FloatVector P5 = FloatVector.broadcast(F, ScalarKernels.P5);

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
        FloatVector v = x.blend(HIGHEST, x.compare(VectorOperators.GT, HIGHEST));
        v = v.blend(LOWEST, v.compare(VectorOperators.LT, LOWEST));
        FloatVector shifted = v.fma(LOG2_E, ROUNDER);
        FloatVector n = shifted.sub(ROUNDER);
        FloatVector r = n.fma(MINUS_LN2_LOW, n.fma(MINUS_LN2_HIGH, v));
        FloatVector p =
                P0.fma(r, P1).fma(r, P2).fma(r, P3).fma(r, P4).fma(r, P5).fma(r.mul(r), r.add(ONE));
        // the shift drops all of ROUNDER's bits, so that they need no subtraction
        return p.reinterpretAsInts()
                .add(shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23))
                .reinterpretAsFloats();
    }
}
