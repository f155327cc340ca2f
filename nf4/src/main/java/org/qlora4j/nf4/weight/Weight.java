package org.qlora4j.nf4.weight;

import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/** A frozen matrix [rows, cols] = [out features, in features] on a device, in the form it is stored. */
public sealed interface Weight {
    /** Output features. */
    int rows();

    /** Input features. */
    int cols();

    /** Bytes it occupies on its device. */
    long bytes();

    /** A matrix in floating point: F32 or BF16 on the CPU, F64 on the reference device. */
    record Dense(Tensor values) implements Weight {
        public Dense {
            if (!values.dtype().isFloat()) {
                throw new IllegalArgumentException("a dense weight holds floating point values, got " + values);
            }
        }

        @Override
        public int rows() {
            return values.rows();
        }

        @Override
        public int cols() {
            return values.cols();
        }

        @Override
        public long bytes() {
            return values.spanBytes();
        }
    }

    /**
     * A matrix in 4-bit blocks of bitsandbytes: {@code code[nibble] * absmax[i / blockSize]}, blocks running over the
     * flattened matrix, the first element of a byte in its high nibble.
     *
     * @param type the codebook
     * @param blockSize elements per absmax, a power of two from 32 to 4096
     * @param rows output features
     * @param cols input features
     * @param packed U8 [1, (rows·cols + 1) / 2]
     * @param absmax one scale per block
     */
    record Quantized(QuantType type, int blockSize, int rows, int cols, Tensor packed, AbsMax absmax)
            implements Weight {
        public Quantized {
            long n = (long) rows * cols;
            if (packed.dtype() != DType.U8 || packed.numel() != (n + 1) / 2) {
                throw new IllegalArgumentException(
                        "a 4-bit weight [" + rows + ", " + cols + "] needs U8 [1, " + (n + 1) / 2 + "], got " + packed);
            }
            long blocks = (n + blockSize - 1) / blockSize;
            if (absmax.count() != blocks) {
                throw new IllegalArgumentException("a 4-bit weight [" + rows + ", " + cols + "] with block size "
                        + blockSize + " needs " + blocks + " absmax values, got " + absmax.count());
            }
        }

        @Override
        public long bytes() {
            return packed.spanBytes() + absmax.bytes();
        }
    }

    /**
     * A matrix in LLM.int8's storage: {@code code · absmax[row] / 127} with a signed byte for each value, one scale a
     * row.
     *
     * @param codes I8 [rows, cols]
     * @param absmax F32 [1, rows], the largest magnitude of each row (bitsandbytes' SCB)
     * @see <a href="https://arxiv.org/abs/2208.07339">Dettmers et al. 2022</a>
     */
    record Int8(Tensor codes, Tensor absmax) implements Weight {
        /** bitsandbytes multiplies by this number in fp32 (int8_vectorwise_dequant). */
        public static final float INVERSE_127 = 7.874015718698502e-3f;

        public Int8 {
            if (codes.dtype() != DType.I8 || absmax.dtype() != DType.F32 || absmax.numel() != codes.rows()) {
                throw new IllegalArgumentException(
                        "an 8-bit weight needs I8 codes and one F32 absmax a row, got " + codes + " and " + absmax);
            }
        }

        /** Code of {@code v} in a row of this absmax: to nearest, ties to even. */
        public static byte code(float v, float absmax) {
            return absmax == 0 ? 0 : (byte) Math.rint(v * (127f / absmax));
        }

        /** What a code stands for, with bitsandbytes' two roundings. */
        public static float decode(byte code, float absmax) {
            return code * absmax * INVERSE_127;
        }

        @Override
        public int rows() {
            return codes.rows();
        }

        @Override
        public int cols() {
            return codes.cols();
        }

        @Override
        public long bytes() {
            return codes.spanBytes() + absmax.spanBytes();
        }
    }

    /** The scales of a 4-bit weight. */
    sealed interface AbsMax {
        /** Number of blocks. */
        long count();

        /** Bytes on the device. */
        long bytes();

        /** One fp32 per block: F32 [1, blocks]. */
        record Plain(Tensor values) implements AbsMax {
            @Override
            public long count() {
                return values.numel();
            }

            @Override
            public long bytes() {
                return values.spanBytes();
            }
        }

        /**
         * Double quantization: {@code absmax[b] = map[codes[b]] * absmax2[b / blockSize] + offset}, two roundings.
         *
         * @param codes U8 [1, blocks]
         * @param absmax2 F32 [1, ceil(blocks / blockSize)]
         * @param map F32 [1, 256], bitsandbytes' signed dynamic map unless a checkpoint says otherwise
         * @param blockSize blocks per value of {@code absmax2}, 256 in bitsandbytes
         * @param offset the mean that was taken off before quantizing
         */
        record Nested(Tensor codes, Tensor absmax2, Tensor map, int blockSize, float offset) implements AbsMax {
            @Override
            public long count() {
                return codes.numel();
            }

            @Override
            public long bytes() {
                return codes.spanBytes() + absmax2.spanBytes();
            }
        }
    }
}
