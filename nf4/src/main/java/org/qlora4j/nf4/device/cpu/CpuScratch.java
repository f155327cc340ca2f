package org.qlora4j.nf4.device.cpu;

import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.DryDevice;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** The buffers {@link Gemm}, {@link Bf16Gemm} and {@link Attention} take while they work. */
public final class CpuScratch implements DryDevice.Scratch {
    private final int threads;

    private final boolean bf16;

    /** @param threads of the device @param bf16 whether it multiplies frozen weights in bf16 */
    public CpuScratch(int threads, boolean bf16) {
        this.threads = threads;
        this.bf16 = bf16;
    }

    @Override
    public void tables(Scope scope) {
        for (QuantType type : QuantType.values()) {
            scope.newTensor(DType.F32, 1, type.codebook().decodedValues().length);
        }
    }

    @Override
    public void product(Scope scope, Scope inner, Tensor x, Weight w, boolean transW) {
        if (transW && x.rows() <= Gemm.DIRECT_DENSE) {
            return;
        }
        if (bf16) {
            productInBf16(scope, x, w, transW);
            return;
        }
        if (isDense(w, DType.F32)) {
            return;
        }
        int cols = w.cols();
        if (transW) {
            int panel = Math.max(Gemm.TILE, Gemm.PANEL_FLOATS / cols / Gemm.TILE * Gemm.TILE);
            scope.newTensor(DType.F32, threads, panel * cols + scales(w, panel * cols) + Gemm.TILE);
        } else {
            int chunk = Math.min(w.rows(), Math.max(Gemm.TILE, Gemm.CHUNK_FLOATS / cols / Gemm.TILE * Gemm.TILE));
            scope.newTensor(DType.F32, chunk, cols);
            int panel = Math.max(1, Gemm.SCRATCH_ELEMENTS / cols);
            inner.newTensor(DType.F32, threads, scales(w, panel * cols) + Gemm.TILE);
        }
    }

    private void productInBf16(Scope scope, Tensor x, Weight w, boolean transW) {
        int cols = w.cols();
        boolean inPlace = isDense(w, DType.BF16);
        int elements = transW ? Bf16Gemm.PANEL : Bf16Gemm.CHUNK;
        int panel = Math.max(Gemm.TILE, elements / cols / Gemm.TILE * Gemm.TILE);
        int rows = transW ? panel : Math.min(w.rows(), panel);
        scope.newTensor(DType.BF16, x.rows(), x.cols());
        scope.newTensor(DType.BF16, transW ? threads : 1, inPlace ? 1 : rows * cols);
        scope.newTensor(DType.F32, threads, WeightRows.PIECE + scales(w, WeightRows.PIECE) + Gemm.TILE);
    }

    private static boolean isDense(Weight w, DType dtype) {
        return w instanceof Weight.Dense d && d.values().dtype() == dtype;
    }

    private static int scales(Weight w, int elements) {
        return w instanceof Weight.Quantized q ? elements / q.blockSize() + 2 : 0;
    }

    @Override
    public void attention(Scope scope, AttentionShape shape) {
        scope.newTensor(DType.F32, threads, scores(shape));
    }

    @Override
    public void attentionBackward(Scope scope, AttentionShape shape) {
        scope.newTensor(DType.F32, 2 * threads, scores(shape));
        scope.newTensor(DType.F32, 2 * threads, Math.multiplyExact(shape.keys(), shape.numKvHeads() * shape.headDim()));
    }

    private static int scores(AttentionShape shape) {
        int longest = 0;
        for (int s = 0; s < shape.sequences(); s++) {
            longest = Math.max(longest, shape.keyOffsets()[s + 1] - shape.keyOffsets()[s]);
        }
        return Math.multiplyExact(Math.min(Attention.BLOCK, shape.queries()), longest);
    }
}
