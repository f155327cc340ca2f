package org.qlora4j.nf4.device.reference;

import org.qlora4j.nf4.device.HostElements;
import org.qlora4j.nf4.weight.Weight;

/** Decodes weights: dense ones exactly, 4-bit ones in fp32 as bitsandbytes does, rounding where it rounds. */
final class ReferenceWeights {
    private ReferenceWeights() {}

    /** Element (row, col). */
    static double value(Weight w, int row, int col) {
        return switch (w) {
            case Weight.Dense dense -> HostElements.get(dense.values(), row, col);
            case Weight.Quantized q -> quantized(q, (long) row * q.cols() + col);
            case Weight.Int8 w8 ->
                Weight.Int8.decode((byte) HostElements.unsignedByte(w8.codes().rows(row, 1), col), (float)
                        HostElements.get(w8.absmax(), 0, row));
        };
    }

    /** All elements, row by row. */
    static double[][] values(Weight w) {
        double[][] values = new double[w.rows()][w.cols()];
        for (int r = 0; r < w.rows(); r++) {
            for (int c = 0; c < w.cols(); c++) {
                values[r][c] = value(w, r, c);
            }
        }
        return values;
    }

    private static double quantized(Weight.Quantized q, long i) {
        int pair = HostElements.unsignedByte(q.packed(), i / 2);
        int code = i % 2 == 0 ? pair >>> 4 : pair & 15;
        return q.type().codebook().decode(code) * absmax(q.absmax(), i / q.blockSize());
    }

    private static float absmax(Weight.AbsMax absmax, long block) {
        return switch (absmax) {
            case Weight.AbsMax.Plain plain -> (float) HostElements.get(plain.values(), 0, (int) block);
            case Weight.AbsMax.Nested nested -> {
                int code = HostElements.unsignedByte(nested.codes(), block);
                float scale = (float) HostElements.get(nested.absmax2(), 0, (int) (block / nested.blockSize()));
                float product = (float) HostElements.get(nested.map(), 0, code) * scale;
                yield product + nested.offset();
            }
        };
    }
}
