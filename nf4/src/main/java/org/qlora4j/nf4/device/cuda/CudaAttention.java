package org.qlora4j.nf4.device.cuda;

import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Attention by the kernels of attention.cu, attention_decode.cu and attention_wide.cu. Head sizes up to 256 run on the
 * tensor cores, up to 512 without; few queries over many keys split the keys over the card.
 *
 * <p>The shape's two arrays of offsets are on the device as well, I32 [1, sequences + 1]; their addresses are arguments
 * here. Results are the same bits each time, for the same shape on the same card.
 */
final class CudaAttention {
    /** Sequences of so many queries at most are decoded: keys split over blocks. */
    private static final int DECODE_QUERIES = 8;

    /** No split has fewer keys than this: its block would do less than start and end. */
    private static final int DECODE_KEYS = 128;

    /** What the kernels take for "no window"; no sequence is longer. */
    private static final int NO_WINDOW = 1 << 30;

    private final Launcher launcher;
    private final int multiprocessors;

    /**
     * @param launcher of the device's stream
     * @param multiprocessors of the card
     */
    CudaAttention(Launcher launcher, int multiprocessors) {
        this.launcher = launcher;
        this.multiprocessors = multiprocessors;
    }

    /**
     * How decoding splits the keys.
     *
     * @param splits of each sequence
     * @param keys of a split
     * @param rowTiles of {@link AttentionKernels#DECODE_ROWS} rows of each sequence
     */
    record Splits(int splits, int keys, int rowTiles) {}

    /** Whether {@link #forward} splits the keys. */
    static boolean decodes(AttentionShape shape) {
        return AttentionKernels.of(shape.headDim()).canDecode() && maxQueries(shape) <= DECODE_QUERIES;
    }

    /** Splits so that there are about two blocks a multiprocessor. */
    static Splits splits(AttentionShape shape, int multiprocessors) {
        int unit = AttentionKernels.of(shape.headDim()).decodeKeys();
        int rows = maxQueries(shape) * (shape.numHeads() / shape.numKvHeads());
        int rowTiles = ceilDiv(rows, AttentionKernels.DECODE_ROWS);
        long blocks = (long) rowTiles * shape.numKvHeads() * shape.sequences();
        int seen = maxSeen(shape);
        int wanted = (int) Math.max(1, 2L * multiprocessors / blocks);
        int keys = ceilDiv(Math.max(DECODE_KEYS, ceilDiv(seen, wanted)), unit) * unit;
        return new Splits(ceilDiv(seen, keys), keys, rowTiles);
    }

    private static int maxQueries(AttentionShape shape) {
        int max = 0;
        for (int s = 0; s < shape.sequences(); s++) {
            max = Math.max(max, shape.queryOffsets()[s + 1] - shape.queryOffsets()[s]);
        }
        return max;
    }

    /** Most keys that one sequence's queries see together. */
    private static int maxSeen(AttentionShape shape) {
        long max = 0;
        for (int s = 0; s < shape.sequences(); s++) {
            int queries = shape.queryOffsets()[s + 1] - shape.queryOffsets()[s];
            int keys = shape.keyOffsets()[s + 1] - shape.keyOffsets()[s];
            max = Math.max(max, Math.min(keys, (long) window(shape) + queries - 1));
        }
        return (int) max;
    }

    private static int window(AttentionShape shape) {
        return shape.window() == 0 ? NO_WINDOW : Math.min(shape.window(), NO_WINDOW);
    }

    private static int ceilDiv(int a, int b) {
        return (a + b - 1) / b;
    }

    /** Values [splits · queries · H, D] and log-sum-exps [1, splits · queries · H] of the splits. */
    record Partials(Tensor values, Tensor logSumExp) {
        static Partials newIn(Scope scope, AttentionShape shape, Splits splits) {
            int rows = Math.multiplyExact(Math.multiplyExact(splits.splits, shape.queries()), shape.numHeads());
            return new Partials(scope.newTensor(DType.F32, rows, shape.headDim()), scope.newTensor(DType.F32, 1, rows));
        }
    }

    /** {@code Σ dOut ⊙ out} of each head and row: F32 [H, queries]. */
    static Tensor newDelta(Scope scope, AttentionShape shape) {
        return scope.newTensor(DType.F32, shape.numHeads(), shape.queries());
    }

    /**
     * {@link org.qlora4j.nf4.device.Ops#attention}.
     *
     * @param scratch takes {@link Partials} if the shape {@link #decodes}
     */
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
        AttentionKernels kernels = AttentionKernels.of(shape.headDim());
        if (!decodes(shape)) {
            launcher.begin(kernels.forward()).matrix(out).matrix(logSumExp);
            inputs(q, k, v, shape, queryOffsets, keyOffsets);
            launcher.run(
                    kernels.forwardBlocks(shape.queries(), shape.sequences()),
                    shape.numHeads(),
                    1,
                    kernels.threads(),
                    kernels.forwardShared());
            return;
        }
        Splits splits = splits(shape, multiprocessors);
        Partials partials = Partials.newIn(scratch, shape, splits);
        launcher.begin(kernels.decode())
                .pointer(partials.values)
                .pointer(partials.logSumExp)
                .i32(shape.queries())
                .i32(shape.numHeads())
                .i32(splits.splits)
                .i32(splits.keys);
        inputs(q, k, v, shape, queryOffsets, keyOffsets);
        launcher.run(
                Math.multiplyExact(splits.splits, shape.sequences()),
                splits.rowTiles * shape.numKvHeads(),
                1,
                kernels.decodeThreads(),
                kernels.decodeShared());
        launcher.begin(CudaKernel.ATTENTION_DECODE_MERGE)
                .matrix(out)
                .matrix(logSumExp)
                .pointer(partials.values)
                .pointer(partials.logSumExp)
                .i32(splits.splits)
                .i32(shape.headDim())
                .run(shape.queries(), shape.numHeads(), 1, kernels.threads(), 0);
    }

    /**
     * {@link org.qlora4j.nf4.device.Ops#attentionBackward}.
     *
     * @param scratch takes {@link #newDelta}
     */
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
        AttentionKernels kernels = AttentionKernels.of(shape.headDim());
        Tensor delta = newDelta(scratch, shape);
        launcher.begin(CudaKernel.ATTENTION_DELTA)
                .matrix(delta)
                .matrix(dOut)
                .matrix(out)
                .i32(shape.queries())
                .i32(shape.headDim())
                .run(ceilDiv(shape.queries(), 4), shape.numHeads(), 1, kernels.threads(), 0);
        launcher.begin(kernels.backwardKeys())
                .matrix(dk)
                .matrix(dv)
                .matrix(dOut)
                .matrix(logSumExp)
                .matrix(delta);
        inputs(q, k, v, shape, queryOffsets, keyOffsets);
        launcher.run(
                kernels.backwardKeysBlocks(shape.keys(), shape.sequences()),
                shape.numKvHeads(),
                1,
                kernels.threads(),
                kernels.backwardKeysShared());
        launcher.begin(kernels.backwardQueries())
                .matrix(dq)
                .matrix(dOut)
                .matrix(logSumExp)
                .matrix(delta);
        inputs(q, k, v, shape, queryOffsets, keyOffsets);
        launcher.run(
                kernels.backwardQueriesBlocks(shape.queries(), shape.sequences()),
                shape.numHeads(),
                1,
                kernels.threads(),
                kernels.backwardQueriesShared());
    }

    /** ATTENTION_PARAMETERS of attention.cuh. */
    private void inputs(Tensor q, Tensor k, Tensor v, AttentionShape shape, long queryOffsets, long keyOffsets) {
        launcher.matrix(q)
                .matrix(k)
                .matrix(v)
                .pointer(queryOffsets)
                .pointer(keyOffsets)
                .i32(shape.sequences())
                .i32(shape.numHeads() / shape.numKvHeads())
                .i32(shape.headDim())
                .i32(window(shape))
                .f32((float) shape.scale())
                .f32((float) shape.softcap());
    }
}
