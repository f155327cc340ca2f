package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.device.TwoDevices.Pair;
import org.qlora4j.nf4.device.TwoDevices.WeightPair;
import org.qlora4j.nf4.device.cpu.CpuDevice;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** Products in bf16: the exact product of operands rounded to bf16, where the CPU has the instructions. */
class Bf16ProductTest {
    /** [N, W.rows, W.cols]; fewer rows of x go through fp32 dot products. */
    private static final int[][] SHAPES = {{5, 16, 64}, {9, 33, 192}, {17, 129, 7}, {64, 70, 300}, {130, 8, 4097}};

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void productsOfRoundedOperands(boolean transW) {
        if (!CpuDevice.hasBf16()) {
            assertThrows(IllegalArgumentException.class, () -> new CpuDevice(2, DType.BF16, Nf4Kernels.AUTO));
            try (Device device = Devices.open("cpu", 2, DType.BF16, Nf4Kernels.AUTO)) {
                assertEquals(DType.F32, device.computeType());
            }
            return;
        }
        for (int threads : new int[] {1, 2}) {
            try (TwoDevices both = new TwoDevices(new CpuDevice(threads, DType.BF16, Nf4Kernels.AUTO), 7)) {
                int turn = 0;
                for (int[] s : SHAPES) {
                    for (WeightPair w : List.of(
                            both.dense(DType.BF16, s[1], s[2]),
                            both.dense(DType.F32, s[1], s[2]),
                            both.dense(DType.F16, s[1], s[2]),
                            both.quantized(QuantType.NF4, 64, true, s[1], s[2]),
                            both.quantized(QuantType.FP4, 4096, false, s[1], s[2]))) {
                        check(both, s[0], w, transW, turn % 2, turn % 3 == 0 ? Layout.STRIDED : Layout.CONTIGUOUS);
                        turn++;
                    }
                }
            }
        }
    }

    private static void check(TwoDevices both, int n, WeightPair w, boolean transW, double beta, Layout layout) {
        int in = transW ? w.mine().cols() : w.mine().rows();
        int width = transW ? w.mine().rows() : w.mine().cols();
        Pair x = both.random(n, in, 1, layout);
        Pair out = beta == 0 ? both.garbage(n, width, layout) : both.random(n, width, 1, layout);
        both.ops().matmul(out.mine(), x.mine(), w.mine(), transW, beta);
        try (Scope scope = both.reference.newScope()) {
            Tensor rounded = scope.newTensor(n, in);
            both.referenceOps().copy(rounded, x.expected());
            round(both.reference, rounded);
            Tensor values = scope.newTensor(w.mine().rows(), w.mine().cols());
            both.referenceOps().dequantize(values, w.expected());
            round(both.reference, values);
            both.referenceOps().matmul(out.expected(), rounded, new Weight.Dense(values), transW, beta);
        }
        both.assertClose(
                "bf16 matmul n=" + n + " with " + w.name() + (transW ? "ᵀ" : "") + " beta=" + beta + " " + layout,
                out,
                Tolerances.sum(DType.F32, in));
    }

    /** To the nearest bf16, ties to even; the values here are finite. */
    private static void round(Device device, Tensor t) {
        double[] values = new double[(int) t.numel()];
        device.download(t, values, 0);
        for (int i = 0; i < values.length; i++) {
            int bits = Float.floatToRawIntBits((float) values[i]);
            values[i] = Float.intBitsToFloat(bits + 0x7FFF + (bits >>> 16 & 1) & 0xFFFF0000);
        }
        device.upload(t, values, 0);
    }
}
