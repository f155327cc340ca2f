package org.qlora4j.nf4.device.cpu;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.weight.Weight;

/** Vector loops over LLM.int8's codes, eight at a time: the JVM widens 64 bits of bytes to 256 of floats. */
final class Int8Vectors {
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    private static final VectorSpecies<Float> F8 = FloatVector.SPECIES_256;

    private Int8Vectors() {}

    private static FloatVector codes(long address) {
        return (FloatVector) ByteVector.fromMemorySegment(ByteVector.SPECIES_64, ALL, address, ORDER)
                .convertShape(VectorOperators.B2F, F8, 0);
    }

    /** The first {@code n & -8} of {@link Kernels#decode8}. */
    static void decode(long y, long codes, float absmax, int n) {
        for (int i = 0; i + 8 <= n; i += 8) {
            codes(codes + i).mul(absmax).mul(Weight.Int8.INVERSE_127).intoMemorySegment(ALL, y + 4L * i, ORDER);
        }
    }

    /** The first {@code n & -16} of {@link Kernels#dotInt8}. */
    static float dot(long codes, long x, int n) {
        FloatVector s0 = FloatVector.zero(F8);
        FloatVector s1 = FloatVector.zero(F8);
        for (int i = 0; i + 16 <= n; i += 16) {
            s0 = codes(codes + i).fma(FloatVector.fromMemorySegment(F8, ALL, x + 4L * i, ORDER), s0);
            s1 = codes(codes + i + 8).fma(FloatVector.fromMemorySegment(F8, ALL, x + 4L * (i + 8), ORDER), s1);
        }
        return VectorMath.sum8(s0.add(s1));
    }
}
