package org.qlora4j.nf4.device.cuda;

import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.DryDevice;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.Weight;

/** The buffers {@link CudaProducts} and {@link CudaAttention} take while they work. */
public final class CudaScratch implements DryDevice.Scratch {
    /** The buffers of any GPU. */
    public CudaScratch() {}

    @Override
    public void tables(Scope scope) {
        scope.newTensor(DType.F32, 2, DynamicMap.SIZE);
    }

    /** A weight decoded to bf16: rows · cols · 2 bytes. */
    @Override
    public void product(Scope scope, Scope inner, Tensor x, Weight w, boolean transW) {
        boolean precise = x.dtype() == DType.F32 && !transW;
        if (x.dtype() == DType.F32) {
            scope.newTensor(DType.BF16, x.rows(), x.cols());
        }
        if (!(w instanceof Weight.Dense dense && dense.values().dtype() == DType.BF16)) {
            scope.newTensor(precise ? DType.F32 : DType.BF16, w.rows(), w.cols());
        }
    }

    @Override
    public void attention(Scope scope, AttentionShape shape) {}

    @Override
    public void attentionBackward(Scope scope, AttentionShape shape) {
        CudaAttention.newDelta(scope, shape);
    }
}
