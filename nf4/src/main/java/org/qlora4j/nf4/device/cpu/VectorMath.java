package org.qlora4j.nf4.device.cpu;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/**
 * Sums of lanes in one order. The JDK leaves the order of {@code reduceLanes(ADD)} open and takes another one once the
 * loop around it is compiled, as {@code lanewise(EXP)} then has other bits; a training run would depend on when that
 * happens.
 */
final class VectorMath {
    static final VectorSpecies<Float> F = FloatVector.SPECIES_PREFERRED;
    static final VectorSpecies<Integer> I = VectorSpecies.of(int.class, F.vectorShape());

    static final VectorShuffle<Float> BY_8 = rotation(F, 8);
    static final VectorShuffle<Float> BY_4 = rotation(F, 4);
    static final VectorShuffle<Float> BY_2 = rotation(F, 2);
    static final VectorShuffle<Float> BY_1 = rotation(F, 1);

    static final VectorShuffle<Float> OF_8_BY_4 = rotation(FloatVector.SPECIES_256, 4);
    static final VectorShuffle<Float> OF_8_BY_2 = rotation(FloatVector.SPECIES_256, 2);
    static final VectorShuffle<Float> OF_8_BY_1 = rotation(FloatVector.SPECIES_256, 1);

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
}
