package org.qlora4j.lora.model;

import java.nio.ByteBuffer;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;

/**
 * LLM.int8: {@code W = int8 · SCB[row] / 127}, with {@code SCB} the largest magnitude of each row.
 *
 * @param stored the I8 matrix
 * @param scales F32 [rows]
 * @see <a href="https://arxiv.org/abs/2208.07339">Dettmers et al. 2022</a>
 */
record BnbInt8Weight(StoredTensor stored, StoredTensor scales, int rows, int cols) implements BnbWeight {
    // bitsandbytes multiplies by this number in fp32 (_ops.py, int8_vectorwise_dequant)
    private static final float RECIPROCAL_127 = 7.874015718698502e-3f;

    /** The name of a tensor that lies beside a weight: {@code a.weight} has {@code a.SCB}. */
    static String beside(String weight, String part) {
        return weight.substring(0, weight.length() - "weight".length()) + part;
    }

    static BnbInt8Weight open(TensorFiles files, StoredTensor t, StoredTensor scales) {
        if (t.type().dtype().filter(DType.I8::equals).isEmpty()
                || t.rank() != 2
                || t.elements() > (long) Integer.MAX_VALUE * Integer.MAX_VALUE
                || t.dim(0) > Integer.MAX_VALUE
                || t.dim(1) > Integer.MAX_VALUE) {
            throw error(
                    t,
                    "has SCB beside it and must be an I8 matrix, found "
                            + t.type().name() + " " + t.shape());
        }
        if (scales.elements() != t.dim(0) || !scales.type().readsAsFloats()) {
            throw error(
                    scales,
                    "must hold " + t.dim(0) + " floats, one per row, found "
                            + scales.type().name() + " " + scales.shape());
        }
        files.find(beside(t.name(), "weight_format")).ifPresent(format -> {
            if (format.byteLength() < 1 || files.readBytes(format)[0] != 0) {
                throw error(
                        format,
                        "the weight is not stored row by row but in a layout for one kind of GPU; save it again with a"
                                + " bitsandbytes that writes weight_format 0");
            }
        });
        return new BnbInt8Weight(t, scales, (int) t.dim(0), (int) t.dim(1));
    }

    private static ModelFormatException error(StoredTensor t, String what) {
        return new ModelFormatException(t.file(), "tensor '" + t.name() + "': " + what);
    }

    /** SCB of all rows. */
    float[] scales(TensorFiles files) {
        float[] scb = new float[rows];
        files.readFloats(scales, 0, rows, scb, 0);
        return scb;
    }

    /** LLM.int8 does not say; its values are computed in fp32. */
    @Override
    public DType dtype() {
        return DType.F32;
    }

    @Override
    public void dequantize(TensorFiles files, long firstElement, int count, float[] dst, int dstOffset) {
        byte[] codes = new byte[count];
        files.readBytes(stored, firstElement, ByteBuffer.wrap(codes));
        int firstRow = (int) (firstElement / cols);
        float[] scb = new float[(int) ((firstElement + count + cols - 1) / cols) - firstRow];
        files.readFloats(scales, firstRow, scb.length, scb, 0);
        for (int i = 0; i < count; i++) {
            int row = (int) ((firstElement + i) / cols) - firstRow;
            dst[dstOffset + i] = codes[i] * scb[row] * RECIPROCAL_127;
        }
    }
}
