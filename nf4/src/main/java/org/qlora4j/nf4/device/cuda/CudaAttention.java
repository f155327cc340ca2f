package org.qlora4j.nf4.device.cuda;

import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

final class CudaAttention {
    CudaAttention(Launcher launcher) {}

    void forward(
            Tensor out,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v,
            AttentionShape shape,
            long queryOffsets,
            long keyOffsets,
            Scope scratch) {
        throw new UnsupportedOperationException();
    }

    void backward(
            Tensor dq,
            Tensor dk,
            Tensor dv,
            Tensor dOut,
            Tensor out,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v,
            AttentionShape shape,
            long queryOffsets,
            long keyOffsets,
            Scope scratch) {
        throw new UnsupportedOperationException();
    }
}
