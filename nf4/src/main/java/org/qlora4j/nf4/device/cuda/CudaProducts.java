package org.qlora4j.nf4.device.cuda;

import java.util.HashMap;
import java.util.Map;
import org.qlora4j.bindings.CuBlas;
import org.qlora4j.bindings.CudaBitsAndBytes;
import org.qlora4j.bindings.CudaBitsAndBytes.FourBit;
import org.qlora4j.bindings.CudaBitsAndBytes.Scales;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/**
 * Matrix products. Operands are bf16, sums fp32; where everything is fp32, so are the operands. A frozen weight is
 * decoded once per product into a buffer that the next product reuses; for few rows libbitsandbytes multiplies from 4
 * bits.
 */
final class CudaProducts implements AutoCloseable {
    /** bitsandbytes' own rule on every architecture: up to so many rows reading 4 bits wins. */
    private static final int FUSED_ROWS = 4;

    private final CudaContext context;
    private final PooledScopes scopes;
    private final CuBlas blas;
    private final CudaWeights weights;
    private final CudaElements elements;
    private final long stream;
    /** Offsets of double quantization on the device, where libbitsandbytes wants them; by the address of the codes. */
    private final Scope offsetScope;

    private final Map<Long, Offset> offsets = new HashMap<>();

    private record Offset(float value, Tensor onDevice) {}

    @SuppressWarnings("MustBeClosedChecker") // closed with this
    CudaProducts(
            CudaContext context,
            PooledScopes scopes,
            CuBlas blas,
            CudaWeights weights,
            CudaElements elements,
            long stream) {
        this.context = context;
        this.scopes = scopes;
        this.blas = blas;
        this.weights = weights;
        this.elements = elements;
        this.stream = stream;
        this.offsetScope = scopes.newScope();
    }

    /** {@code out = alpha · op(a) · op(b) + beta · out}. */
    void matmul(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, double alpha, double beta) {
        if (out.numel() == 0) {
            return;
        }
        int inner = transA ? a.rows() : a.cols();
        if (inner == 0) {
            scale(out, beta);
            return;
        }
        try (Scope scratch = scopes.newScope()) {
            boolean precise = a.dtype() == DType.F32 && b.dtype() == DType.F32 && out.dtype() == DType.F32;
            DType operands = precise ? DType.F32 : DType.BF16;
            gemm(out, as(operands, a, scratch), transA, as(operands, b, scratch), transB, alpha, beta);
        }
    }

    /** {@code out = beta · out}. */
    private void scale(Tensor out, double beta) {
        if (beta == 0) {
            elements.fill(out, 0);
        } else if (beta != 1) {
            elements.add(out, out, beta - 1);
        }
    }

    private Tensor as(DType type, Tensor t, Scope scratch) {
        if (t.dtype() == type) {
            return t;
        }
        Tensor rounded = scratch.newTensor(type, t.rows(), t.cols());
        weights.copy(rounded, t, 0);
        return rounded;
    }

    private void gemm(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, double alpha, double beta) {
        context.enter();
        blas.gemm(
                transA,
                transB,
                out.rows(),
                out.cols(),
                transA ? a.rows() : a.cols(),
                (float) alpha,
                a.address(),
                a.stride(),
                b.address(),
                b.stride(),
                type(a.dtype()),
                (float) beta,
                out.address(),
                out.stride(),
                type(out.dtype()));
    }

    private static CuBlas.Type type(DType dtype) {
        return dtype == DType.F32 ? CuBlas.Type.F32 : CuBlas.Type.BF16;
    }

    /** {@code out = x · Wᵀ + beta · out}, or {@code x · W} if not transW. */
    void matmul(Tensor out, Tensor x, Weight w, boolean transW, double beta) {
        if (out.numel() == 0) {
            return;
        }
        if (x.cols() == 0) {
            scale(out, beta);
            return;
        }
        if (transW && w instanceof Weight.Quantized q && isFused(out, x, q, beta)) {
            fused(out, x, q);
            return;
        }
        boolean precise = x.dtype() == DType.F32 && out.dtype() == DType.F32;
        DType operands = precise ? DType.F32 : DType.BF16;
        try (Scope scratch = scopes.newScope()) {
            gemm(out, as(operands, x, scratch), false, decoded(w, operands, scratch), transW, 1, beta);
        }
    }

    private Tensor decoded(Weight w, DType type, Scope scratch) {
        if (w instanceof Weight.Dense dense && dense.values().dtype() == type) {
            return dense.values();
        }
        Tensor values = scratch.newTensor(type, w.rows(), w.cols());
        weights.dequantize(values, w);
        return values;
    }

    private static boolean isFused(Tensor out, Tensor x, Weight.Quantized q, double beta) {
        return x.rows() <= FUSED_ROWS
                && beta == 0
                && x.dtype() == DType.BF16
                && out.dtype() == DType.BF16
                && x.isContiguous()
                && out.isContiguous()
                && q.cols() % q.blockSize() == 0
                && x.address() % 16 == 0
                && q.packed().address() % 16 == 0
                && !(q.absmax() instanceof Weight.AbsMax.Nested nested && nested.blockSize() != 256);
    }

    private void fused(Tensor out, Tensor x, Weight.Quantized q) {
        Scales scales = switch (q.absmax()) {
            case Weight.AbsMax.Plain plain -> new Scales.Plain(plain.values().address());
            case Weight.AbsMax.Nested nested ->
                new Scales.Nested(
                        nested.codes().address(),
                        nested.absmax2().address(),
                        nested.map().address(),
                        offset(nested).address());
        };
        context.enter();
        CudaBitsAndBytes.gemm4Bit(
                q.type() == QuantType.FP4 ? FourBit.FP4 : FourBit.NF4,
                x.address(),
                q.packed().address(),
                scales,
                out.address(),
                x.rows(),
                q.rows(),
                q.cols(),
                q.blockSize(),
                stream);
    }

    /** Memory of a freed weight may come back as another's: the value decides whether the device has it. */
    private Tensor offset(Weight.AbsMax.Nested nested) {
        long key = nested.codes().address();
        Offset known = offsets.get(key);
        if (known != null && Float.floatToRawIntBits(known.value) == Float.floatToRawIntBits(nested.offset())) {
            return known.onDevice;
        }
        Tensor onDevice = known == null ? offsetScope.newTensor(DType.F32, 1, 1) : known.onDevice;
        elements.fill(onDevice, nested.offset());
        offsets.put(key, new Offset(nested.offset(), onDevice));
        return onDevice;
    }

    @Override
    public void close() {
        offsetScope.close();
    }
}
