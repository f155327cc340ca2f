package org.qlora4j.nf4.device.cuda;

import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/** Elementwise operations that other operations are made of too; tensors are BF16 or F32. */
final class CudaElements {
    private final Launches launches;

    CudaElements(Launches launches) {
        this.launches = launches;
    }

    /** Every element becomes {@code value}. */
    void fill(Tensor y, double value) {
        if (y.numel() > 0) {
            launches.begin(isPrecise(y) ? CudaKernel.FILL_F32 : CudaKernel.FILL_BF16)
                    .matrix(y)
                    .size(y)
                    .f32((float) value);
            launches.elementwise(y);
        }
    }

    /** {@code y += alpha · x}; x may be y. */
    void add(Tensor y, Tensor x, double alpha) {
        if (y.numel() > 0) {
            CudaKernel kernel = isPrecise(y)
                    ? isPrecise(x) ? CudaKernel.ADD_F32_F32 : CudaKernel.ADD_F32_BF16
                    : isPrecise(x) ? CudaKernel.ADD_BF16_F32 : CudaKernel.ADD_BF16_BF16;
            launches.begin(kernel).matrix(y).matrix(x).size(y).f32((float) alpha);
            launches.elementwise(y);
        }
    }

    static boolean isPrecise(Tensor t) {
        return t.dtype() == DType.F32;
    }
}
