package org.qlora4j.nf4.device.cuda;

import org.qlora4j.nf4.device.ShapeException;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** Weights and rows of them as bf16 or fp32, whatever they are stored in. */
final class CudaWeights {
    /** The codebook in shared memory. */
    private static final int CODEBOOK = 64;

    private final Launches launches;

    CudaWeights(Launches launches) {
        this.launches = launches;
    }

    /** {@code out[i] = w[i]}. @param out BF16 or F32 [w.rows, w.cols] */
    void dequantize(Tensor out, Weight w) {
        rows(out, w, 0);
    }

    /** {@code out[i] = w[index[i]]}. @param index address of I32 [out.rows], or 0 for all rows in order */
    void rows(Tensor out, Weight w, long index) {
        if (out.numel() == 0) {
            return;
        }
        switch (w) {
            case Weight.Dense dense -> copy(out, dense.values(), index);
            case Weight.Int8 w8 -> {
                launches.begin(
                                out.dtype() == DType.F32
                                        ? CudaKernel.DEQUANTIZE_INT8_F32
                                        : CudaKernel.DEQUANTIZE_INT8_BF16)
                        .matrix(out)
                        .matrix(w8.codes())
                        .pointer(w8.absmax())
                        .pointer(index)
                        .size(out);
                launches.elementwise(out);
            }
            case Weight.Quantized q -> quantized(out, q, index);
        }
    }

    private void quantized(Tensor out, Weight.Quantized q, long index) {
        Launcher launch = launches.begin(
                        out.dtype() == DType.F32 ? CudaKernel.DEQUANTIZE_4BIT_F32 : CudaKernel.DEQUANTIZE_4BIT_BF16)
                .matrix(out)
                .pointer(q.packed());
        switch (q.absmax()) {
            case Weight.AbsMax.Plain plain ->
                launch.pointer(plain.values()).pointer(0).pointer(0).i32(1).f32(0);
            case Weight.AbsMax.Nested nested ->
                launch.pointer(nested.absmax2())
                        .pointer(nested.codes())
                        .pointer(nested.map())
                        .i32(nested.blockSize())
                        .f32(nested.offset());
        }
        launch.i32(Integer.numberOfTrailingZeros(q.blockSize()))
                .i32(q.type() == QuantType.FP4 ? 1 : 0)
                .pointer(index)
                .size(out);
        launches.elementwise(out, CODEBOOK);
    }

    /** {@code y = x}, or rows of it; types may differ. @param index as in {@link #rows} */
    void copy(Tensor y, Tensor x, long index) {
        if (y.numel() == 0) {
            return;
        }
        launches.begin(copyKernel(y.dtype(), x.dtype()))
                .matrix(y)
                .matrix(x)
                .pointer(index)
                .size(y);
        launches.elementwise(y);
    }

    private static CudaKernel copyKernel(DType y, DType x) {
        if (y == x && y.isFloat()) {
            return switch (y) {
                case BF16, F16 -> CudaKernel.COPY_ROWS_16;
                case F32 -> CudaKernel.COPY_ROWS_32;
                default -> throw unsupported(y, x);
            };
        }
        return switch (y) {
            case BF16 ->
                x == DType.F32
                        ? CudaKernel.CAST_ROWS_BF16_F32
                        : castFrom(DType.F16, y, x, CudaKernel.CAST_ROWS_BF16_F16);
            case F16 ->
                x == DType.F32
                        ? CudaKernel.CAST_ROWS_F16_F32
                        : castFrom(DType.BF16, y, x, CudaKernel.CAST_ROWS_F16_BF16);
            case F32 ->
                x == DType.BF16
                        ? CudaKernel.CAST_ROWS_F32_BF16
                        : castFrom(DType.F16, y, x, CudaKernel.CAST_ROWS_F32_F16);
            default -> throw unsupported(y, x);
        };
    }

    private static CudaKernel castFrom(DType expected, DType y, DType x, CudaKernel kernel) {
        if (x != expected) {
            throw unsupported(y, x);
        }
        return kernel;
    }

    private static ShapeException unsupported(DType y, DType x) {
        return new ShapeException("a GPU holds F32, BF16 and F16; got a copy from " + x + " to " + y);
    }
}
