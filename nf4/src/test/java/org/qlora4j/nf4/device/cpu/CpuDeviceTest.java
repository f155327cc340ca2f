package org.qlora4j.nf4.device.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/**
 * What only the CPU device promises: the same bits again, independence of threads where said, no garbage to speak of.
 */
class CpuDeviceTest {
    private static final int TOKENS = 140;
    private static final int HEADS = 4;
    private static final int HEAD_DIM = 16;
    private static final int WIDTH = HEADS * HEAD_DIM;

    private static Tensor random(CpuDevice device, Scope scope, int rows, int cols, long seed) {
        Tensor t = scope.newTensor(rows, cols);
        float[] values = new float[rows * cols];
        Random random = new Random(seed);
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        device.upload(t, values, 0);
        return t;
    }

    private static float[] values(CpuDevice device, Tensor t) {
        float[] values = new float[(int) t.numel()];
        device.download(t, values, 0);
        return values;
    }

    private static Weight nf4(CpuDevice device, Scope scope, int rows, int cols) {
        byte[] codes = new byte[rows * cols / 2];
        new Random(9).nextBytes(codes);
        Tensor packed = scope.newTensor(DType.U8, 1, codes.length);
        device.upload(packed, codes, 0);
        Tensor absmax = random(device, scope, 1, rows * cols / 64, 10);
        return new Weight.Quantized(QuantType.NF4, 64, rows, cols, packed, new Weight.AbsMax.Plain(absmax));
    }

    /** A layer's worth of operations, forward and backward. */
    private static final class Step {
        final CpuDevice device;
        final Ops ops;
        final Tensor x;
        final Weight w;
        final Tensor q;
        final Tensor out;
        final Tensor logSumExp;
        final Tensor dq;
        final Tensor dk;
        final Tensor dv;
        final Tensor logits;
        final Tensor losses;
        final Tensor correct;
        final Tensor labels;
        final AttentionShape shape =
                new AttentionShape(HEADS, HEADS, HEAD_DIM, 0.25, new int[] {0, TOKENS}, new int[] {0, TOKENS});

        Step(CpuDevice device, Scope scope) {
            this.device = device;
            ops = device.ops();
            x = random(device, scope, TOKENS, WIDTH, 1);
            w = nf4(device, scope, WIDTH, WIDTH);
            q = scope.newTensor(TOKENS, WIDTH);
            out = scope.newTensor(TOKENS, WIDTH);
            logSumExp = scope.newTensor(HEADS, TOKENS);
            dq = scope.newTensor(TOKENS, WIDTH);
            dk = scope.newTensor(TOKENS, WIDTH);
            dv = scope.newTensor(TOKENS, WIDTH);
            logits = scope.newTensor(TOKENS, 200);
            losses = scope.newTensor(1, TOKENS);
            correct = scope.newTensor(1, TOKENS);
            labels = scope.newTensor(DType.I32, 1, TOKENS);
            device.upload(labels, new int[TOKENS], 0);
        }

        void run() {
            ops.matmul(q, x, w, true, 0);
            ops.attention(out, logSumExp, q, x, x, shape);
            ops.attentionBackward(dq, dk, dv, x, out, logSumExp, q, x, x, shape);
            ops.matmul(q, dq, w, false, 1);
            ops.swiGluBackward(dq, out, q, dk, dv);
            ops.dropout(out, out, 0.1, 5);
            ops.matmul(logits.cols(0, TOKENS), out, false, q, true, 0.01, 0);
            ops.fill(logits.cols(TOKENS, 200 - TOKENS), 1);
            ops.crossEntropy(losses, correct, logits, labels, 1, 0);
        }

        float[] result() {
            float[] all = new float[TOKENS * 200 + TOKENS];
            device.download(logits, all, 0);
            device.download(losses, all, TOKENS * 200);
            return all;
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void theSameBitsInEveryRunAndOnEveryDevice(int threads) {
        float[] first;
        try (CpuDevice device = new CpuDevice(threads);
                Scope scope = device.newScope()) {
            Step step = new Step(device, scope);
            step.run();
            first = step.result();
            for (int i = 0; i < 60; i++) {
                step.run();
            }
            assertArrayEquals(first, step.result(), "the 61st run differs from the first");
        }
        try (CpuDevice device = new CpuDevice(threads);
                Scope scope = device.newScope()) {
            Step step = new Step(device, scope);
            step.run();
            assertArrayEquals(first, step.result(), "a second device differs");
        }
        for (float v : first) {
            assertTrue(Float.isFinite(v), "not finite: " + v);
        }
    }

    @Test
    void theSteadyStateTakesNoMemoryAndLittleGarbage() {
        try (CpuDevice device = new CpuDevice(2);
                Scope scope = device.newScope()) {
            Step step = new Step(device, scope);
            ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
            long bytes = Long.MAX_VALUE;
            step.run();
            step.run();
            long held = device.bytesHeld();
            // interpreted vector code makes an object of every vector, so this waits for the compiler
            for (int round = 0; round < 100 && bytes > 20_000; round++) {
                long before = threads.getCurrentThreadAllocatedBytes();
                for (int i = 0; i < 20; i++) {
                    step.run();
                }
                bytes = (threads.getCurrentThreadAllocatedBytes() - before) / 20;
            }
            assertTrue(bytes <= 20_000, bytes + " bytes of garbage in nine operations on " + step.x);
            assertEquals(held, device.bytesHeld(), "native memory grew");
        }
    }

    @Test
    void elementwiseResultsAndNormsDoNotDependOnThreads() {
        float[][] results = new float[3][];
        double[] norms = new double[3];
        for (int threads = 1; threads <= 3; threads++) {
            try (CpuDevice device = new CpuDevice(threads);
                    Scope scope = device.newScope()) {
                int n = 100_003;
                Tensor p = random(device, scope, 1, n, 1);
                Tensor g = random(device, scope, 1, n, 2);
                Tensor m = random(device, scope, 1, n, 3);
                Tensor v = scope.newTensor(1, n);
                device.ops().fill(v, 0.5);
                OptimizerRule rule = new OptimizerRule.AdamW(0.9, 0.999, 1e-8, 0.1, true);
                device.ops().optimizerStep(p, g, new OptimizerState.Full(m, v), new OptimizerStep(rule, 3, 1e-2, 0.5));
                device.ops().dropout(p, p, 0.25, 7);
                norms[threads - 1] = device.ops().sumOfSquares(p);
                results[threads - 1] = values(device, p);
            }
        }
        assertArrayEquals(results[0], results[1]);
        assertArrayEquals(results[0], results[2]);
        assertEquals(norms[0], norms[1]);
        assertEquals(norms[0], norms[2]);
    }

    @Test
    void saysWhatItIs() {
        try (CpuDevice device = new CpuDevice(2)) {
            assertTrue(device.description().startsWith("cpu: 2 threads, "), device.description());
            assertTrue(device.description().matches(".*oneDNN \\d+\\.\\d+.*"), device.description());
            assertEquals("cpu", device.name());
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, -1, 1025})
    void refusesThreadCountsThatMakeNoSense(int threads) {
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> new CpuDevice(threads));
        assertTrue(e.getMessage().contains(String.valueOf(threads)), e.getMessage());
    }

    @Test
    void closingFreesAndRefuses() {
        CpuDevice device = new CpuDevice(2);
        Scope scope = device.newScope();
        Tensor t = scope.newTensor(200, 200);
        device.close();
        assertEquals(0, device.bytesHeld());
        assertThrows(IllegalStateException.class, () -> device.ops().fill(t, 1));
        assertThrows(IllegalStateException.class, device::newScope);
    }
}
