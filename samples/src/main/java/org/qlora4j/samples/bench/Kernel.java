package org.qlora4j.samples.bench;

import java.util.SplittableRandom;
import org.qlora4j.bindings.BitsAndBytes;
import org.qlora4j.bindings.OneDnn;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.BlockQuantizer;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/**
 * What {@code qlora bench} times, in SmolLM2-135M's sizes at 512 tokens, with the arithmetic and the memory traffic it
 * cannot do without: each input read and each result written once.
 */
enum Kernel {
    FFM_CALL("a call of oneDNN's version function", 0, 0) {
        @Override
        Runnable prepare(Data d) {
            return OneDnn::version;
        }
    },
    QUANTIZE("NF4 quantization, [1536, 576], one thread", 0, Data.UP * 4.5) {
        @Override
        Runnable prepare(Data d) {
            float[] x = new float[Data.UP];
            SplittableRandom random = new SplittableRandom(1);
            for (int i = 0; i < x.length; i++) {
                x[i] = (float) random.nextDouble() - 0.5f;
            }
            byte[] packed = new byte[Data.UP / 2];
            float[] absmax = new float[Data.UP / 64];
            return () -> BlockQuantizer.quantize(QuantType.NF4, 64, x, 0, x.length, packed, 0, absmax, 0);
        }
    },
    DEQUANTIZE_BITSANDBYTES("NF4 to fp32 by libbitsandbytes, [1536, 576]", 0, Data.UP * 4.5) {
        @Override
        Runnable prepare(Data d) {
            Weight.Quantized w = d.nf4(1536, 576);
            Tensor out = d.zeros(1536, 576);
            long absmax = ((Weight.AbsMax.Plain) w.absmax()).values().address();
            return () -> BitsAndBytes.dequantize4Bit(
                    BitsAndBytes.FourBit.NF4, w.packed().address(), absmax, out.address(), 64, Data.UP);
        }
    },
    DEQUANTIZE("NF4 to fp32, [1536, 576]", 0, Data.UP * 4.5) {
        @Override
        Runnable prepare(Data d) {
            Weight w = d.nf4(1536, 576);
            Tensor out = d.zeros(1536, 576);
            return () -> d.device.ops().dequantize(out, w);
        }
    },
    GEMM("fp32 product, [512, 576] · [1536, 576]ᵀ", 2.0 * 512 * Data.UP, 4.0 * (512 * 576 + Data.UP + 512 * 1536)) {
        @Override
        Runnable prepare(Data d) {
            Tensor x = d.random(512, 576);
            Tensor w = d.random(1536, 576);
            Tensor y = d.zeros(512, 1536);
            return () -> d.device.ops().matmul(y, x, false, w, true, 1, 0);
        }
    },
    NF4_FORWARD("product with NF4, [512, 576] · [1536, 576]ᵀ", 2.0 * 512 * Data.UP, 4.0 * (512 * 576 + 512 * 1536)) {
        @Override
        Runnable prepare(Data d) {
            Tensor x = d.random(512, 576);
            Weight w = d.nf4(1536, 576);
            Tensor y = d.zeros(512, 1536);
            return () -> d.device.ops().matmul(y, x, w, true, 0);
        }
    },
    NF4_BACKWARD("product with NF4, [512, 1536] · [1536, 576]", 2.0 * 512 * Data.UP, 4.0 * (512 * 576 + 512 * 1536)) {
        @Override
        Runnable prepare(Data d) {
            Tensor dy = d.random(512, 1536);
            Weight w = d.nf4(1536, 576);
            Tensor dx = d.zeros(512, 576);
            return () -> d.device.ops().matmul(dx, dy, w, false, 0);
        }
    },
    NF4_GEMV("product with NF4, one row, [1, 576] · [1536, 576]ᵀ", 2.0 * Data.UP, Data.UP / 2.0) {
        @Override
        Runnable prepare(Data d) {
            Tensor x = d.random(1, 576);
            Weight w = d.nf4(1536, 576);
            Tensor y = d.zeros(1, 1536);
            return () -> d.device.ops().matmul(y, x, w, true, 0);
        }
    },
    LORA_A("LoRA, [512, 576] · [8, 576]ᵀ", 2.0 * 512 * 576 * 8, 4.0 * 512 * 576) {
        @Override
        Runnable prepare(Data d) {
            Tensor x = d.random(512, 576);
            Tensor a = d.random(8, 576);
            Tensor u = d.zeros(512, 8);
            return () -> d.device.ops().matmul(u, x, false, a, true, 1, 0);
        }
    },
    LORA_B("LoRA, += [512, 8] · [1536, 8]ᵀ", 2.0 * 512 * 1536 * 8, 8.0 * 512 * 1536) {
        @Override
        Runnable prepare(Data d) {
            Tensor u = d.random(512, 8);
            Tensor b = d.random(1536, 8);
            Tensor y = d.zeros(512, 1536);
            return () -> d.device.ops().matmul(y, u, false, b, true, 4, 1);
        }
    },
    RMS_NORM("RMSNorm, [512, 576]", 0, 8.0 * 512 * 576) {
        @Override
        Runnable prepare(Data d) {
            Tensor x = d.random(512, 576);
            Tensor y = d.zeros(512, 576);
            Tensor rstd = d.zeros(1, 512);
            Tensor w = d.random(1, 576);
            return () -> d.device.ops().rmsNorm(y, rstd, x, w, 1e-5);
        }
    },
    SWIGLU("SwiGLU, [512, 1536]", 0, 12.0 * 512 * 1536) {
        @Override
        Runnable prepare(Data d) {
            Tensor gate = d.random(512, 1536);
            Tensor up = d.random(512, 1536);
            Tensor y = d.zeros(512, 1536);
            return () -> d.device.ops().swiGlu(y, gate, up);
        }
    },
    ATTENTION("causal attention, 512 tokens, 9 heads on 3, size 64", Data.SCORES * 4 * 64, 4.0 * 512 * 64 * 24) {
        @Override
        Runnable prepare(Data d) {
            Attention a = new Attention(d);
            return () -> d.device.ops().attention(a.out, a.logSumExp, a.q, a.k, a.v, a.shape);
        }
    },
    ATTENTION_BACKWARD("its gradients", Data.SCORES * 10 * 64, 4.0 * 512 * 64 * 48) {
        @Override
        Runnable prepare(Data d) {
            Attention a = new Attention(d);
            d.device.ops().attention(a.out, a.logSumExp, a.q, a.k, a.v, a.shape);
            Tensor dOut = d.random(512, 576);
            Tensor dq = d.zeros(512, 576);
            Tensor dk = d.zeros(512, 192);
            Tensor dv = d.zeros(512, 192);
            return () -> d.device.ops().attentionBackward(dq, dk, dv, dOut, a.out, a.logSumExp, a.q, a.k, a.v, a.shape);
        }
    },
    CROSS_ENTROPY("cross-entropy and its gradient, [64, 49152]", 0, 8.0 * 64 * 49152) {
        @Override
        Runnable prepare(Data d) {
            Tensor logits = d.random(64, 49152);
            Tensor losses = d.zeros(1, 64);
            Tensor correct = d.zeros(1, 64);
            Tensor labels = d.scope.newTensor(DType.I32, 1, 64);
            d.device.upload(labels, new int[64], 0);
            return () -> d.device.ops().crossEntropy(losses, correct, logits, labels, 1e-3, 0);
        }
    },
    ADAMW("AdamW, 2.4 M parameters, fp32 state", 0, Data.PARAMETERS * 28.0) {
        @Override
        Runnable prepare(Data d) {
            OptimizerState.Full s = OptimizerState.Full.allocate(d.scope, ADAMW_RULE, Data.PARAMETERS);
            d.clear(s.state1(), s.state2());
            return step(d, s);
        }
    },
    ADAMW_8BIT("AdamW, 2.4 M parameters, 8-bit state", 0, Data.PARAMETERS * 16.0) {
        @Override
        Runnable prepare(Data d) {
            OptimizerState.EightBit s =
                    OptimizerState.EightBit.allocate(d.scope, ADAMW_RULE, Data.PARAMETERS, Blockwise8.Rule.NEAREST);
            d.clear(s.state1(), s.absmax1(), s.state2(), s.absmax2());
            return step(d, s);
        }
    };

    private static final OptimizerRule ADAMW_RULE = new OptimizerRule.AdamW(0.9, 0.999, 1e-8, 0, true);

    final String what;
    final double flops;
    final double bytes;

    Kernel(String what, double flops, double bytes) {
        this.what = what;
        this.flops = flops;
        this.bytes = bytes;
    }

    /** Makes the inputs; the result is one call. */
    abstract Runnable prepare(Data d);

    private static Runnable step(Data d, OptimizerState state) {
        Tensor p = d.random(1, Data.PARAMETERS);
        Tensor g = d.random(1, Data.PARAMETERS);
        OptimizerStep step = new OptimizerStep(ADAMW_RULE, 10, 1e-4, 1);
        return () -> d.device.ops().optimizerStep(p, g, state, step);
    }

    /** Inputs and results of attention. */
    private static final class Attention {
        final Tensor q;
        final Tensor k;
        final Tensor v;
        final Tensor out;
        final Tensor logSumExp;
        final AttentionShape shape = new AttentionShape(9, 3, 64, 0.125, new int[] {0, 512}, new int[] {0, 512});

        Attention(Data d) {
            q = d.random(512, 576);
            k = d.random(512, 192);
            v = d.random(512, 192);
            out = d.zeros(512, 576);
            logSumExp = d.zeros(9, 512);
        }
    }

    /** A device, and tensors on it. */
    record Data(Device device, Scope scope) {
        static final int UP = 1536 * 576;
        static final int PARAMETERS = 2_442_240;
        /** Pairs of a query and a key it sees, in all heads. */
        static final double SCORES = 9 * 512 * 513 / 2.0;

        Tensor zeros(int rows, int cols) {
            Tensor t = scope.newTensor(rows, cols);
            device.ops().fill(t, 0);
            return t;
        }

        void clear(Tensor... tensors) {
            for (Tensor t : tensors) {
                device.upload(t, new byte[(int) t.spanBytes()], 0);
            }
        }

        Tensor random(int rows, int cols) {
            Tensor t = scope.newTensor(rows, cols);
            device.upload(t, values(rows * cols), 0);
            return t;
        }

        Weight.Quantized nf4(int rows, int cols) {
            float[] x = values(rows * cols);
            byte[] packed = new byte[x.length / 2];
            float[] absmax = new float[x.length / 64];
            BlockQuantizer.quantize(QuantType.NF4, 64, x, 0, x.length, packed, 0, absmax, 0);
            Tensor codes = scope.newTensor(DType.U8, 1, packed.length);
            Tensor scales = scope.newTensor(DType.F32, 1, absmax.length);
            device.upload(codes, packed, 0);
            device.upload(scales, absmax, 0);
            return new Weight.Quantized(QuantType.NF4, 64, rows, cols, codes, new Weight.AbsMax.Plain(scales));
        }

        private static float[] values(int n) {
            SplittableRandom random = new SplittableRandom(n);
            float[] x = new float[n];
            for (int i = 0; i < n; i++) {
                x[i] = (float) random.nextDouble() - 0.5f;
            }
            return x;
        }
    }
}
