package org.qlora4j.samples.bench;

import java.util.ArrayList;
import java.util.List;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.Weight;

/**
 * Something {@code qlora bench} times on a GPU, with the arithmetic and the memory traffic it cannot do without: each
 * input read and each result written once.
 *
 * @param name part of which chooses it
 */
record GpuKernel(String name, String what, double flops, double bytes, Setup setup) {
    /** Makes the inputs, on the scope of the tensors. */
    interface Setup {
        Work of(GpuTensors on);
    }

    /** One call, and what it writes, which must be finite. */
    record Work(Runnable call, Tensor result) {}

    private static final double NF4 = 0.5 + 4.0 / 64;
    private static final double NF4_NESTED = 0.5 + 1.0 / 64 + 4.0 / (64 * 256);
    private static final OptimizerRule ADAMW = new OptimizerRule.AdamW(0.9, 0.999, 1e-8, 0, true);
    private static final OptimizerStep STEP = new OptimizerStep(ADAMW, 10, 1e-4, 1);

    /** Rows of logits at a time, as the loss has them: 32 MiB. */
    private static int lossRows(ModelShape s) {
        return Math.min(s.tokens(), (32 << 20) / (2 * s.vocab()));
    }

    /** All of them at a model's sizes. */
    static List<GpuKernel> all(ModelShape s) {
        int t = s.tokens();
        int h = s.hidden();
        int up = s.intermediate();
        List<GpuKernel> all = new ArrayList<>();
        all.add(dequantize("dequantize", up, h, false));
        all.add(dequantize("dequantize_nested", up, h, true));
        all.add(gemm("gemm_up", t, h, up, true));
        all.add(gemm("gemm_up_backward", t, up, h, false));
        all.add(gemm("gemm_query", t, h, s.queryWidth(), true));
        all.add(gemm("gemm_key", t, h, s.keyWidth(), true));
        all.add(gemm("gemm_output", lossRows(s), h, s.vocab(), true));
        all.add(lora("lora_a", t, h, ModelShape.RANK, 0));
        all.add(lora("lora_b", t, ModelShape.RANK, up, 1));
        all.add(nf4("nf4_product", t, h, up));
        for (int rows = 1; rows <= 4; rows++) {
            all.add(nf4("gemm_4bit_" + rows, rows, h, up));
        }
        all.add(attention(s, false));
        all.add(attention(s, true));
        all.add(crossEntropy(lossRows(s), s.vocab()));
        all.add(norm(t, h));
        all.add(swiGlu(t, up));
        int n = s.loraParameters();
        all.add(adamW("adamw_32bit", n, false, false));
        all.add(adamW("adamw_8bit", n, true, false));
        all.add(adamW("paged_adamw_32bit", n, false, true));
        all.add(adamW("paged_adamw_8bit", n, true, true));
        return all;
    }

    private static GpuKernel dequantize(String name, int rows, int cols, boolean nested) {
        double n = (double) rows * cols;
        String what = "NF4%s to bf16, [%d, %d]".formatted(nested ? " with nested scales" : "", rows, cols);
        return new GpuKernel(name, what, 0, n * ((nested ? NF4_NESTED : NF4) + 2), on -> {
            Weight w = on.nf4(rows, cols, nested);
            Tensor out = on.zeros(rows, cols);
            return new Work(() -> on.device.ops().dequantize(out, w), out);
        });
    }

    private static double flops(int m, int k, int n) {
        return 2.0 * m * k * n;
    }

    /** {@code [m, k] · [n, k]ᵀ}, or {@code · [k, n]} for a gradient. */
    private static GpuKernel gemm(String name, int m, int k, int n, boolean transposed) {
        String what = (transposed ? "cuBLAS bf16, [%d, %d] · [%d, %d]ᵀ" : "cuBLAS bf16, [%d, %d] · [%4$d, %3$d]")
                .formatted(m, k, n, k);
        double bytes = 2.0 * ((double) m * k + (double) k * n + (double) m * n);
        return new GpuKernel(name, what, flops(m, k, n), bytes, on -> {
            Tensor x = on.random(m, k);
            Tensor w = transposed ? on.random(n, k) : on.random(k, n);
            Tensor y = on.zeros(m, n);
            return new Work(() -> on.device.ops().matmul(y, x, false, w, transposed, 1, 0), y);
        });
    }

    private static GpuKernel lora(String name, int m, int k, int n, double beta) {
        String what = "LoRA, %s[%d, %d] · [%d, %d]ᵀ in fp32".formatted(beta == 0 ? "" : "+= ", m, k, n, k);
        double bytes = 2.0 * m * k + 4.0 * n * k + 2 * (1 + beta) * m * n;
        return new GpuKernel(name, what, flops(m, k, n), bytes, on -> {
            Tensor x = on.random(m, k);
            Tensor w = on.precise(n, k);
            Tensor y = on.zeros(m, n);
            return new Work(() -> on.device.ops().matmul(y, x, false, w, true, 1, beta), y);
        });
    }

    private static GpuKernel nf4(String name, int m, int k, int n) {
        String what = "product with NF4, [%d, %d] · [%d, %d]ᵀ".formatted(m, k, n, k);
        double bytes = 2.0 * ((double) m * k + (double) m * n) + NF4_NESTED * k * n;
        return new GpuKernel(name, what, flops(m, k, n), bytes, on -> {
            Tensor x = on.random(m, k);
            Weight w = on.nf4(n, k, true);
            Tensor y = on.zeros(m, n);
            return new Work(() -> on.device.ops().matmul(y, x, w, true, 0), y);
        });
    }

    private static GpuKernel attention(ModelShape s, boolean backward) {
        int t = s.tokens();
        int wide = s.queryWidth();
        int narrow = s.keyWidth();
        String what = "%s, %d tokens, %d heads on %d, size %d"
                .formatted(
                        backward ? "gradients of attention" : "causal attention",
                        t,
                        s.heads(),
                        s.kvHeads(),
                        s.headDim());
        double products = backward ? 5 : 2;
        double bytes = 2.0 * t * 2 * (wide + narrow) * (backward ? 2 : 1);
        return new GpuKernel(
                backward ? "attention_backward" : "attention",
                what,
                2 * products * s.scores() * s.headDim(),
                bytes,
                on -> {
                    int[] offsets = {0, t};
                    AttentionShape shape = new AttentionShape(
                            s.heads(), s.kvHeads(), s.headDim(), 1 / Math.sqrt(s.headDim()), offsets, offsets);
                    Tensor q = on.random(t, wide);
                    Tensor k = on.random(t, narrow);
                    Tensor v = on.random(t, narrow);
                    Tensor out = on.zeros(t, wide);
                    Tensor logSumExp = on.preciseZeros(s.heads(), t);
                    Ops ops = on.device.ops();
                    ops.attention(out, logSumExp, q, k, v, shape);
                    if (!backward) {
                        return new Work(() -> ops.attention(out, logSumExp, q, k, v, shape), out);
                    }
                    Tensor dOut = on.random(t, wide);
                    Tensor dq = on.zeros(t, wide);
                    Tensor dk = on.zeros(t, narrow);
                    Tensor dv = on.zeros(t, narrow);
                    return new Work(() -> ops.attentionBackward(dq, dk, dv, dOut, out, logSumExp, q, k, v, shape), dk);
                });
    }

    private static GpuKernel crossEntropy(int rows, int vocab) {
        String what = "cross-entropy and its gradient, [%d, %d]".formatted(rows, vocab);
        return new GpuKernel("cross_entropy", what, 0, 4.0 * rows * vocab, on -> {
            Tensor logits = on.random(rows, vocab);
            Tensor losses = on.preciseZeros(1, rows);
            Tensor correct = on.preciseZeros(1, rows);
            Tensor labels = on.scope.newTensor(DType.I32, 1, rows);
            on.device.upload(labels, new int[rows], 0);
            return new Work(() -> on.device.ops().crossEntropy(losses, correct, logits, labels, 1e-3, 0), losses);
        });
    }

    private static GpuKernel norm(int rows, int cols) {
        return new GpuKernel("rms_norm", "RMSNorm, [%d, %d]".formatted(rows, cols), 0, 4.0 * rows * cols, on -> {
            Tensor x = on.random(rows, cols);
            Tensor w = on.precise(1, cols);
            Tensor y = on.zeros(rows, cols);
            Tensor rstd = on.preciseZeros(1, rows);
            return new Work(() -> on.device.ops().rmsNorm(y, rstd, x, w, 1e-6), y);
        });
    }

    private static GpuKernel swiGlu(int rows, int cols) {
        return new GpuKernel("swiglu", "SwiGLU, [%d, %d]".formatted(rows, cols), 0, 6.0 * rows * cols, on -> {
            Tensor gate = on.random(rows, cols);
            Tensor up = on.random(rows, cols);
            Tensor y = on.zeros(rows, cols);
            return new Work(() -> on.device.ops().swiGlu(y, gate, up), y);
        });
    }

    private static GpuKernel adamW(String name, int n, boolean eightBit, boolean paged) {
        String what = "AdamW, %.1f M parameters, %s%s state"
                .formatted(n / 1e6, paged ? "paged " : "", eightBit ? "8-bit" : "fp32");
        double bytes = n * (12 + (eightBit ? 4 + 16.0 / 256 : 16));
        return new GpuKernel(name, what, 0, bytes, on -> {
            Tensor p = on.precise(1, n);
            Tensor g = on.precise(1, n);
            OptimizerState state = state(on, on.stateScope(paged), n, eightBit);
            return new Work(() -> on.device.ops().optimizerStep(p, g, state, STEP), p);
        });
    }

    private static OptimizerState state(GpuTensors on, Scope scope, int n, boolean eightBit) {
        if (eightBit) {
            OptimizerState.EightBit s = OptimizerState.EightBit.allocate(scope, ADAMW, n, Blockwise8.Rule.NEAREST);
            if (!scope.isPaged()) {
                on.clear(s.state1());
                on.clear(s.state2());
                on.device.ops().fill(s.absmax1(), 0);
                on.device.ops().fill(s.absmax2(), 0);
            }
            return s;
        }
        OptimizerState.Full s = OptimizerState.Full.allocate(scope, ADAMW, n);
        if (!scope.isPaged()) {
            on.device.ops().fill(s.state1(), 0);
            on.device.ops().fill(s.state2(), 0);
        }
        return s;
    }
}
