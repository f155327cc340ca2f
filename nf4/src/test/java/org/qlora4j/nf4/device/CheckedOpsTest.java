package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Proxy;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** Each kind of mistake is refused before the device sees it, with a message that names operation and argument. */
class CheckedOpsTest {
    private PooledScopes scopes;
    private Scope scope;
    private int calls;
    private CheckedOps ops;

    @BeforeEach
    void open() {
        scopes = new PooledScopes("test", DType.F32);
        scope = scopes.newScope();
        ops = new CheckedOps(counting(), "test", DType.F32, true);
    }

    @AfterEach
    void close() {
        scope.close();
        scopes.close();
    }

    /** Operations that only count how often they were reached. */
    private Ops counting() {
        return (Ops) Proxy.newProxyInstance(
                Ops.class.getClassLoader(), new Class<?>[] {Ops.class}, (proxy, method, args) -> {
                    calls++;
                    return method.getReturnType() == double.class ? 0.0 : null;
                });
    }

    private Tensor t(int rows, int cols) {
        return scope.newTensor(rows, cols);
    }

    private Tensor ints(int... values) {
        Tensor t = scope.newTensor(DType.I32, 1, values.length);
        HostTransfers.upload(t, values, 0);
        return t;
    }

    private Weight.Quantized quantized(int rows, int cols) {
        int blocks = (rows * cols + 63) / 64;
        return new Weight.Quantized(
                QuantType.NF4,
                64,
                rows,
                cols,
                scope.newTensor(DType.U8, 1, (rows * cols + 1) / 2),
                new Weight.AbsMax.Plain(scope.newTensor(DType.F32, 1, blocks)));
    }

    private void refused(String message, Executable call) {
        ShapeException e = assertThrows(ShapeException.class, call);
        assertTrue(e.getMessage().contains(message), e.getMessage());
        assertEquals(0, calls, "the device was called");
    }

    private void passes(Executable call) {
        int before = calls;
        assertDoesNotThrow(call);
        assertEquals(before + 1, calls, "the device was not called");
    }

    @Test
    void matmulShapes() {
        refused(
                "matmul: inner sizes differ: a F32 [3, 2] on testᵀ, b F32 [2, 4] on test",
                () -> ops.matmul(t(2, 4), t(3, 2), true, t(2, 4), false, 1, 0));
        refused(
                "matmul: out must be [3, 4], got F32 [4, 3] on test",
                () -> ops.matmul(t(4, 3), t(3, 2), false, t(2, 4), false, 1, 0));
        passes(() -> ops.matmul(t(3, 4), t(2, 3), true, t(4, 2), true, 1, 0));
    }

    @Test
    void embeddingGradient() {
        refused("ids[1] must be from 0 to 3", () -> ops.embeddingBackward(t(4, 3), ints(0, 4), t(2, 3)));
        refused("dOut must be [2, 3]", () -> ops.embeddingBackward(t(4, 3), ints(0, 1), t(2, 5)));
        Tensor both = t(4, 3);
        refused("must not overlap dOut", () -> ops.embeddingBackward(both, ints(0, 1), both.rows(1, 2)));
        passes(() -> ops.embeddingBackward(t(4, 3), ints(0, 0), t(2, 3)));
    }

    @Test
    void rowNorms() {
        Weight w = quantized(5, 7);
        refused("inverseRowNorms: a must be [2, 7]", () -> ops.inverseRowNorms(t(1, 5), w, t(2, 5), t(5, 2), 1));
        refused("inverseRowNorms: b must be [5, 2]", () -> ops.inverseRowNorms(t(1, 5), w, t(2, 7), t(5, 3), 1));
        refused("inverseRowNorms: out must be [1, 5]", () -> ops.inverseRowNorms(t(1, 7), w, t(2, 7), t(5, 2), 1));
        refused("at least one row", () -> ops.inverseRowNorms(t(1, 5), w, t(0, 7), t(5, 0), 1));
        passes(() -> ops.inverseRowNorms(t(1, 5), w, t(2, 7), t(5, 2), 1));
    }

    @Test
    void routing() {
        Tensor y = t(2, 3);
        refused("scaleRows: scale must be [1, 2]", () -> ops.scaleRows(y, y, t(1, 3)));
        refused("rowDots: out must be [1, 2]", () -> ops.rowDots(t(1, 3), y, y));
        passes(() -> ops.scaleRows(y, y, t(1, 2)));
        passes(() -> ops.rowDots(t(1, 2), y, y));
        calls = 0;
        Tensor logits = t(2, 4);
        refused("k must be at most 4", () -> ops.topKSoftmax(t(2, 5), ints(new int[10]), logits, true));
        refused("chosen must be [1, 6]", () -> ops.topKSoftmax(t(2, 3), ints(new int[4]), logits, true));
        refused("weights must be [2, 3]", () -> ops.topKSoftmax(t(3, 3), ints(new int[9]), logits, true));
        Tensor w = t(2, 1);
        refused(
                "chosen[1] must be from 0 to 3",
                () -> ops.topKSoftmaxBackward(logits, t(2, 1), w, ints(0, 4), logits, true));
        refused(
                "must be probabilities itself",
                () -> ops.topKSoftmaxBackward(
                        logits.rows(0, 1),
                        t(1, 1),
                        t(1, 1),
                        ints(0),
                        logits.reshape(1, 8).cols(2, 4),
                        true));
        passes(() -> ops.topKSoftmaxBackward(logits, t(2, 1), w, ints(0, 3), logits, true));
    }

    @Test
    void weightShapes() {
        Weight w = quantized(5, 7);
        refused("matmul x·Wᵀ: x must be [2, 7]", () -> ops.matmul(t(2, 5), t(2, 5), w, true, 0));
        refused("matmul x·Wᵀ: out must be [2, 5]", () -> ops.matmul(t(2, 7), t(2, 7), w, true, 0));
        refused("matmul x·W: x must be [2, 5]", () -> ops.matmul(t(2, 7), t(2, 7), w, false, 0));
        refused("dequantize: out must be [5, 7]", () -> ops.dequantize(t(7, 5), w));
        refused("embedding: out must be [2, 7]", () -> ops.embedding(t(2, 5), ints(0, 1), w));
        refused("embedding: ids must be [1, 3]", () -> ops.embedding(t(3, 7), ints(0, 1), w));
        passes(() -> ops.matmul(t(2, 5), t(2, 7), w, true, 0));
        passes(() -> ops.matmul(t(0, 7), t(0, 5), w, false, 0));
    }

    @Test
    void weightParts() {
        Tensor packed = scope.newTensor(DType.U8, 1, 64);
        Tensor absmax = scope.newTensor(DType.F32, 1, 6);
        Weight odd = new Weight.Quantized(QuantType.NF4, 24, 8, 16, packed, new Weight.AbsMax.Plain(absmax));
        refused("w's block size must be a power of two from 32 to 4096, got 24", () -> ops.dequantize(t(8, 16), odd));
        Tensor two = scope.newTensor(DType.F32, 1, 2);
        Weight.AbsMax nested = new Weight.AbsMax.Nested(
                scope.newTensor(DType.U8, 1, 2), two, scope.newTensor(DType.F32, 1, 256), 256, 0);
        refused(
                "dequantize: w's absmax2 must be 1 contiguous elements of F32, got F32 [1, 2]",
                () -> ops.dequantize(t(8, 16), new Weight.Quantized(QuantType.NF4, 64, 8, 16, packed, nested)));
        Weight.AbsMax shortMap = new Weight.AbsMax.Nested(
                scope.newTensor(DType.U8, 1, 2), two.cols(0, 1), scope.newTensor(DType.F32, 1, 16), 256, 0);
        refused(
                "w's map must be 256",
                () -> ops.dequantize(t(8, 16), new Weight.Quantized(QuantType.NF4, 64, 8, 16, packed, shortMap)));
        Weight.AbsMax wrongType = new Weight.AbsMax.Plain(scope.newTensor(DType.BF16, 1, 2));
        refused(
                "w's absmax must be 2 contiguous elements of F32",
                () -> ops.dequantize(t(8, 16), new Weight.Quantized(QuantType.NF4, 64, 8, 16, packed, wrongType)));
    }

    @Test
    void types() {
        Tensor half = scope.newTensor(DType.BF16, 2, 2);
        refused("add: x must be F32, got BF16 [2, 2] on test", () -> ops.add(t(2, 2), half, 1));
        refused("fill: y must be F32", () -> ops.fill(half, 0));
        refused("gatherRows: rows must be I32, got F32", () -> ops.gatherRows(t(1, 2), t(2, 2), t(1, 1)));
        refused("copy: x must have a floating point type, got I32", () -> ops.copy(t(1, 2), ints(1, 2)));
        passes(() -> ops.copy(half, t(2, 2)));
    }

    @Test
    void devices() {
        try (PooledScopes other = new PooledScopes("elsewhere", DType.F32);
                Scope theirs = other.newScope()) {
            Tensor far = theirs.newTensor(2, 2);
            refused("swiGlu: up must be on test, got F32 [2, 2] on elsewhere", () -> ops.swiGlu(t(2, 2), t(2, 2), far));
        }
    }

    @Test
    void closedScopes() {
        Tensor late;
        try (Scope brief = scopes.newScope()) {
            late = brief.newTensor(2, 2);
            passes(() -> ops.fill(late, 0));
        }
        IllegalStateException e = assertThrows(IllegalStateException.class, () -> ops.fill(late, 0));
        assertTrue(
                e.getMessage().contains("fill: y F32 [2, 2] on test is used after its scope was closed"),
                e.getMessage());
        assertEquals(1, calls);
    }

    @Test
    void indices() {
        Weight table = quantized(4, 8);
        refused(
                "embedding: ids[1] must be from 0 to 3 (rows of the table), got 4",
                () -> ops.embedding(t(2, 8), ints(3, 4), table));
        refused("ids[0] must be from 0 to 3", () -> ops.embedding(t(1, 8), ints(-1), table));
        refused("gatherRows: rows[0] must be from 0 to 2", () -> ops.gatherRows(t(1, 8), t(3, 8), ints(3)));
        refused("scatterRows: rows[1] must be from 0 to 2", () -> ops.scatterRows(t(3, 8), t(2, 8), ints(0, 3)));
        refused("scatterRows: rows[2] repeats row 1", () -> ops.scatterRows(t(3, 8), t(3, 8), ints(1, 0, 1)));
        refused("rope: positions[0] must be from 0 to 4", () -> ops.rope(t(1, 4), t(5, 2), t(5, 2), ints(5), 4, false));
        refused(
                "crossEntropy: labels[0] must be from 0 to 6 (vocabulary), got -100",
                () -> ops.crossEntropy(t(1, 1), t(1, 1), t(1, 7), ints(-100), 1, 0));
        passes(() -> ops.scatterRows(t(200, 8), t(3, 8), ints(199, 0, 70)));
    }

    @Test
    void indicesOutOfTheHostsReachAreNotRead() {
        CheckedOps far = new CheckedOps(counting(), "test", DType.F32, false);
        passes(() -> far.gatherRows(t(1, 8), t(3, 8), ints(99)));
    }

    @Test
    void norms() {
        refused("rmsNorm: rstd must be [1, 3]", () -> ops.rmsNorm(t(3, 4), t(3, 1), t(3, 4), t(1, 4), 0));
        refused("rmsNorm: weight must be [1, 4]", () -> ops.rmsNorm(t(3, 4), t(1, 3), t(3, 4), t(1, 3), 0));
        refused(
                "rmsNorm: eps must be at least 0, got NaN",
                () -> ops.rmsNorm(t(3, 4), t(1, 3), t(3, 4), t(1, 4), Double.NaN));
        Tensor x = t(3, 4);
        passes(() -> ops.rmsNorm(x, t(1, 3), x, t(1, 4), 0));
        refusedAfterPass(
                "rmsNormBackward: dx F32 [3, 4] on test must not overlap dy",
                () -> ops.rmsNormBackward(x, x, t(3, 4), t(1, 3), t(1, 4), 0));
        refusedAfterPass(
                "rmsNormBackward: dx F32 [3, 4] on test must not overlap x",
                () -> ops.rmsNormBackward(x, t(3, 4), x, t(1, 3), t(1, 4), 0));
    }

    private void refusedAfterPass(String message, Executable call) {
        calls = 0;
        refused(message, call);
    }

    @Test
    void softcap() {
        refused("softcap: x must be [2, 3], got F32 [3, 2]", () -> ops.softcap(t(2, 3), t(3, 2), 1));
        refused("softcap: cap must be above 0, got 0.0", () -> ops.softcap(t(2, 3), t(2, 3), 0));
        refused("softcapBackward: y must be [2, 3]", () -> ops.softcapBackward(t(2, 3), t(2, 3), t(2, 2), 1));
        Tensor y = t(2, 3);
        refused("must not overlap y", () -> ops.softcapBackward(y, t(2, 3), y, 1));
        passes(() -> ops.softcap(y, y, 1));
        passes(() -> ops.softcapBackward(y, y, t(2, 3), 1));
    }

    @Test
    void rope() {
        refused(
                "rope: cos must have at most headDim/2 columns, got headDim 3",
                () -> ops.rope(t(1, 6), t(5, 2), t(5, 2), ints(0), 3, false));
        refused("got headDim 4", () -> ops.rope(t(1, 6), t(5, 2), t(5, 2), ints(0), 4, false));
        refused("rope: sin must be [5, 2]", () -> ops.rope(t(1, 4), t(5, 2), t(4, 2), ints(0), 4, false));
        passes(() -> ops.rope(t(1, 6), t(5, 1), t(5, 1), ints(0), 3, false));
    }

    @Test
    void attention() {
        AttentionShape shape = new AttentionShape(4, 2, 3, 1, new int[] {0, 5}, new int[] {0, 6});
        refused(
                "attention: q must be [5, 12]",
                () -> ops.attention(t(5, 12), t(4, 5), t(6, 12), t(6, 6), t(6, 6), shape));
        refused(
                "attention: k must be [6, 6]",
                () -> ops.attention(t(5, 12), t(4, 5), t(5, 12), t(5, 6), t(6, 6), shape));
        refused(
                "attention: v must be [6, 6]",
                () -> ops.attention(t(5, 12), t(4, 5), t(5, 12), t(6, 6), t(6, 12), shape));
        refused(
                "attention: logSumExp must be [4, 5]",
                () -> ops.attention(t(5, 12), t(5, 4), t(5, 12), t(6, 6), t(6, 6), shape));
        Tensor q = t(5, 12);
        refused(
                "attention: out F32 [5, 12] on test must not overlap q",
                () -> ops.attention(q, t(4, 5), q, t(6, 6), t(6, 6), shape));
        refused(
                "attentionBackward: queries and keys must be equally many, got 5 and 6",
                () -> ops.attentionBackward(
                        q, t(6, 6), t(6, 6), t(5, 12), t(5, 12), t(4, 5), t(5, 12), t(6, 6), t(6, 6), shape));
        AttentionShape square = new AttentionShape(4, 2, 3, 1, new int[] {0, 5}, new int[] {0, 5});
        Tensor dk = t(5, 6);
        refused(
                "attentionBackward: dk F32 [5, 6] on test must not overlap dv",
                () -> ops.attentionBackward(
                        q, dk, dk, t(5, 12), t(5, 12), t(4, 5), t(5, 12), t(5, 6), t(5, 6), square));
        assertThrows(ShapeException.class, () -> new AttentionShape(3, 2, 8, 1, new int[] {0, 1}, new int[] {0, 1}));
        assertThrows(
                ShapeException.class, () -> new AttentionShape(2, 2, 8, 1, -1, 0, new int[] {0, 1}, new int[] {0, 1}));
        assertThrows(
                ShapeException.class,
                () -> new AttentionShape(2, 2, 8, 1, 0, Double.NaN, new int[] {0, 1}, new int[] {0, 1}));
        assertThrows(ShapeException.class, () -> new AttentionShape(2, 2, 8, 1, new int[] {0, 2}, new int[] {0, 1}));
    }

    @Test
    void activations() {
        Tensor gate = t(2, 3);
        Tensor up = t(2, 3);
        Tensor dy = t(2, 3);
        refused("swiGlu: gate must be [2, 3], got F32 [3, 2]", () -> ops.swiGlu(t(2, 3), t(3, 2), up));
        Tensor wide = t(2, 4);
        refused(
                "swiGlu: y F32 [2, 3] stride 4 on test must be gate itself or not overlap it",
                () -> ops.swiGlu(wide.cols(0, 3), wide.cols(1, 3), up));
        refused(
                "swiGluBackward: dUp F32 [2, 3] on test must not overlap dy",
                () -> ops.swiGluBackward(t(2, 3), dy, dy, gate, up));
        Tensor d = t(2, 3);
        refused(
                "swiGluBackward: dUp F32 [2, 3] on test must not overlap dGate",
                () -> ops.swiGluBackward(d, d, dy, gate, up));
        refused("geGlu: gate must be [2, 3], got F32 [3, 2]", () -> ops.geGlu(t(2, 3), t(3, 2), up));
        refused(
                "geGluBackward: dUp F32 [2, 3] on test must not overlap dy",
                () -> ops.geGluBackward(t(2, 3), dy, dy, gate, up));
        passes(() -> ops.geGlu(gate, gate, up));
        passes(() -> ops.geGluBackward(dy, up, dy, gate, up));
        passes(() -> ops.swiGlu(gate, gate, up));
        passes(() -> ops.swiGluBackward(gate, up, dy, gate, up));
        passes(() -> ops.swiGluBackward(dy, up, dy, gate, up));
    }

    @Test
    void sumsAndDropout() {
        Tensor y = t(2, 3);
        refused("add: x must be [2, 3]", () -> ops.add(y, t(3, 2), 1));
        refused("must not overlap x", () -> ops.add(y, y, 1));
        refused("addBias: bias must be [1, 3]", () -> ops.addBias(y, t(1, 2)));
        refused("scaleColumns: scale must be [1, 3]", () -> ops.scaleColumns(y, y, t(1, 2), 0));
        refused("scaleColumns: x must be [2, 3]", () -> ops.scaleColumns(y, t(2, 2), t(1, 3), 0));
        refused("columnDots: out must be [1, 3]", () -> ops.columnDots(t(1, 2), y, y));
        refused("columnDots: b must be [2, 3]", () -> ops.columnDots(t(1, 3), y, t(2, 4)));
        refused("copy: x must be [2, 3]", () -> ops.copy(y, t(2, 2)));
        refused("dropout: p must be in [0, 1), got 1.0", () -> ops.dropout(y, y, 1, 0));
        refused("dropout: y must be [2, 2]", () -> ops.dropout(y, t(2, 2), 0.5, 0));
        passes(() -> ops.dropout(y, y, 0.5, 0));
        passes(() -> ops.columnDots(t(1, 3), y, y));
        passes(() -> ops.scaleColumns(y, y, t(1, 3), 0));
        passes(() -> ops.sumOfSquares(y));
    }

    @Test
    void lossAndOptimizer() {
        refused(
                "crossEntropy: losses must be [1, 3]",
                () -> ops.crossEntropy(t(1, 2), t(1, 3), t(3, 5), ints(0, 0, 0), 1, 0));
        refused(
                "crossEntropy: correct must be [1, 3]",
                () -> ops.crossEntropy(t(1, 3), t(1, 2), t(3, 5), ints(0, 0, 0), 1, 0));
        refused(
                "crossEntropy: labels must be [1, 3]",
                () -> ops.crossEntropy(t(1, 3), t(1, 3), t(3, 5), ints(0, 0), 1, 0));
        refused(
                "crossEntropy: smoothing must be in [0, 1), got 1.0",
                () -> ops.crossEntropy(t(1, 3), t(1, 3), t(3, 5), ints(0, 0, 0), 1, 1));
        Tensor p = t(1, 4);
        OptimizerRule rule = new OptimizerRule.AdamW(0.9, 0.999, 1e-8, 0, true);
        OptimizerStep step = new OptimizerStep(rule, 1, 0.1, 1);
        OptimizerState state = OptimizerState.Full.allocate(scope, rule, 4);
        refused("optimizerStep: p must be [1, 4]", () -> ops.optimizerStep(t(2, 4), t(2, 4), state, step));
        refused("optimizerStep: g must be [1, 4]", () -> ops.optimizerStep(p, t(1, 5), state, step));
        refused(
                "optimizerStep: state1 must be [1, 4], got F32 [1, 5]",
                () -> ops.optimizerStep(p, t(1, 4), OptimizerState.Full.allocate(scope, rule, 5), step));
        refused(
                "optimizerStep: state1 must be [2, 4], got F32 [1, 4]",
                () -> ops.optimizerStep(
                        p,
                        t(1, 4),
                        state,
                        new OptimizerStep(
                                new OptimizerRule.AdEmaMix(0.9, 0.99, 0.999, 5, 0, 0, 0, 0, true), 1, 0.1, 1)));
        refused(
                "optimizerStep: state F32 [1, 4] on test must not overlap p",
                () -> ops.optimizerStep(p, t(1, 4), new OptimizerState.Full(p, state.state2()), step));
        refused(
                "optimizerStep: state1 F32 [1, 4] on test must not overlap state2",
                () -> ops.optimizerStep(p, t(1, 4), new OptimizerState.Full(state.state1(), state.state1()), step));
        refused(
                "optimizerStep: step must be at least 1, got 0",
                () -> ops.optimizerStep(p, t(1, 4), state, new OptimizerStep(rule, 0, 0.1, 1)));
        refused(
                "optimizerStep: gradientScale must be finite, got NaN",
                () -> ops.optimizerStep(p, t(1, 4), state, new OptimizerStep(rule, 1, 0.1, Double.NaN)));
        OptimizerState.EightBit small =
                OptimizerState.EightBit.allocate(scope, rule, 4, org.qlora4j.nf4.weight.Blockwise8.Rule.NEAREST);
        refused(
                "optimizerStep: absmax2 must be [1, 1], got F32 [1, 2]",
                () -> ops.optimizerStep(
                        p,
                        t(1, 4),
                        new OptimizerState.EightBit(
                                small.state1(), small.absmax1(), small.state2(), t(1, 2), small.rounding()),
                        step));
        passes(() -> ops.optimizerStep(p, t(1, 4), state, step));
        passes(() -> ops.optimizerStep(p, t(1, 4), small, step));
    }

    @Test
    void overlap() {
        Tensor wide = t(10, 12);
        Tensor left = wide.cols(0, 5);
        assertFalse(OpChecks.overlap(left, wide.cols(5, 7)), "neighbouring columns");
        assertTrue(OpChecks.overlap(left, wide.cols(4, 7)), "one column in common");
        assertTrue(OpChecks.overlap(wide.cols(4, 7), left), "and the other way round");
        assertFalse(OpChecks.overlap(wide.rows(0, 5), wide.rows(5, 5)), "neighbouring rows");
        assertTrue(OpChecks.overlap(wide.rows(0, 6), wide.rows(5, 5)), "one row in common");
        assertFalse(OpChecks.overlap(left.rows(0, 4), wide.cols(5, 7).rows(2, 4)), "columns apart, rows not");
        assertFalse(OpChecks.overlap(wide.rows(3, 1).cols(5, 7), left), "a row of the other half");
        assertTrue(OpChecks.overlap(wide.rows(3, 1).cols(4, 2), left));
        assertFalse(OpChecks.overlap(wide.rows(0, 0), wide), "nothing");
        // rows that start in the right half and end in the next row's left half
        Tensor shifted = new Tensor(wide.memory(), DType.F32, 9, 8, 12, wide.address() + 4L * 8);
        assertTrue(OpChecks.overlap(left, shifted));
        assertTrue(OpChecks.overlap(shifted, left));
        assertFalse(OpChecks.overlap(wide.cols(4, 4), shifted));
        assertTrue(OpChecks.overlap(left, wide.reshape(12, 10)), "other strides are not taken apart");
    }

    @Test
    void threads() throws InterruptedException {
        Tensor y = t(2, 2);
        passes(() -> ops.fill(y, 0));
        Throwable thrown = inThread(() -> ops.fill(y, 0));
        assertNotNull(thrown);
        assertEquals(IllegalStateException.class, thrown.getClass());
        assertTrue(
                thrown.getMessage()
                        .contains("test: fill was called by thread 'second', but the device belongs to thread"),
                thrown.getMessage());
        assertNotNull(inThread(ops::handOver), "only the owner hands over");
        ops.handOver();
        assertNull(inThread(() -> ops.fill(y, 0)));
        assertThrows(IllegalStateException.class, () -> ops.fill(y, 0), "now the other thread owns it");
        assertEquals(2, calls);
    }

    private static Throwable inThread(Runnable action) throws InterruptedException {
        AtomicReference<Throwable> thrown = new AtomicReference<>();
        Thread thread = new Thread(
                () -> {
                    try {
                        action.run();
                    } catch (RuntimeException e) {
                        thrown.set(e);
                    }
                },
                "second");
        thread.start();
        thread.join();
        return thrown.get();
    }

    @Test
    void allocatesNothingOnTheGoodPath() {
        Tensor out = t(3, 4);
        Tensor a = t(3, 2);
        Tensor b = t(2, 4);
        Weight w = quantized(4, 2);
        Tensor rows = ints(2, 0, 1);
        Tensor sorted = ints(0, 1, 2);
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        OpChecks check = new OpChecks("test", DType.F32, true);
        long bytes = Long.MAX_VALUE;
        for (int round = 0; round < 5; round++) {
            long before = threads.getCurrentThreadAllocatedBytes();
            for (int i = 0; i < 10_000; i++) {
                check.floats("op", "out", out, 3, 4);
                check.weight("op", "w", w);
                check.indices("op", "rows", rows, 3, 3, "rows");
                check.distinct("op", "rows", sorted, 3);
                check.apart("op", "out", out, "a", a);
                check.sameOrApart("op", "out", out, "b", b);
            }
            bytes = Math.min(bytes, threads.getCurrentThreadAllocatedBytes() - before);
        }
        assertTrue(bytes < 10_000, bytes + " bytes in 10,000 rounds");
    }
}
