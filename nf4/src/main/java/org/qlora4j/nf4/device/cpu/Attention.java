package org.qlora4j.nf4.device.cpu;

import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import org.qlora4j.bindings.OneDnn;
import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Causal attention in blocks of one head and up to 128 query rows against the keys that one of them sees: one GEMM for
 * the scores, softmax over whole rows, one GEMM for the output (dot products and a weighted sum for a single query, for
 * which a GEMM costs more than its arithmetic). Backward makes the probabilities again from the log-sum-exp. No T×T
 * matrix is kept; keys in front of a block's window cost nothing.
 */
final class Attention {
    static final int BLOCK = 128;

    /** Multiply-adds below which one thread takes all heads: a few microseconds. */
    private static final long ALONE = 1 << 16;

    private final Workers workers;
    private final Kernels kernels;
    private final PooledScopes scopes;

    Attention(Workers workers, Kernels kernels, PooledScopes scopes) {
        this.workers = workers;
        this.kernels = kernels;
        this.scopes = scopes;
    }

    /**
     * One block of work: its rows of the queries, the first key row that one of them sees, and how many keys from there
     * come before the first of them.
     */
    private record Block(int queryRow, int queries, int keyRow, int keysBefore) {
        int keys() {
            return keysBefore + queries;
        }

        /** Keys up to and including the one of query r. */
        int end(int r) {
            return keysBefore + r + 1;
        }
    }

    private static Block[] blocks(AttentionShape shape) {
        int count = 0;
        for (int s = 0; s < shape.sequences(); s++) {
            count += (shape.queryOffsets()[s + 1] - shape.queryOffsets()[s] + BLOCK - 1) / BLOCK;
        }
        Block[] blocks = new Block[count];
        int b = 0;
        for (int s = 0; s < shape.sequences(); s++) {
            int q0 = shape.queryOffsets()[s];
            int queries = shape.queryOffsets()[s + 1] - q0;
            int past = shape.keyOffsets()[s + 1] - shape.keyOffsets()[s] - queries;
            for (int i = 0; i < queries; i += BLOCK) {
                int skipped = shape.firstSeen(past + i + 1);
                blocks[b++] = new Block(
                        q0 + i, Math.min(BLOCK, queries - i), shape.keyOffsets()[s] + skipped, past + i - skipped);
            }
        }
        // the longest first, dealt out in a snake, so that workers end at about the same time
        java.util.Arrays.sort(blocks, java.util.Comparator.comparingInt((Block x) -> -x.keys() * x.queries()));
        return blocks;
    }

    private static boolean mine(int task, int worker, int workers) {
        int at = task % (2 * workers);
        return worker == (at < workers ? at : 2 * workers - 1 - at);
    }

    private static int longest(Block[] blocks) {
        int keys = 0;
        for (Block b : blocks) {
            keys = Math.max(keys, b.keys());
        }
        return keys;
    }

    void forward(Tensor out, Tensor logSumExp, Tensor q, Tensor k, Tensor v, AttentionShape shape) {
        Block[] blocks = blocks(shape);
        int heads = shape.numHeads();
        int rows = Math.min(BLOCK, shape.queries());
        try (Scope scope = scopes.newScope()) {
            Tensor scores = scope.newTensor(DType.F32, workers.count(), Math.multiplyExact(rows, longest(blocks)));
            Workers.Task task = (worker, count) -> {
                for (int t = 0; t < blocks.length * heads; t++) {
                    if (mine(t, worker, count)) {
                        forward(
                                out,
                                logSumExp,
                                q,
                                k,
                                v,
                                shape,
                                blocks[t / heads],
                                t % heads,
                                scores.rowAddress(worker));
                    }
                }
            };
            if ((long) heads * rows * longest(blocks) * shape.headDim() < ALONE) {
                workers.runAlone(task);
            } else {
                workers.run(task);
            }
        }
    }

    private void forward(
            Tensor out,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v,
            AttentionShape shape,
            Block b,
            int head,
            long scores) {
        int d = shape.headDim();
        int kvHead = head / (shape.numHeads() / shape.numKvHeads());
        int keys = b.keys();
        float scale = (float) shape.scale();
        float softcap = (float) shape.softcap();
        long qAt = q.rowAddress(b.queryRow) + 4L * head * d;
        long kAt = k.rowAddress(b.keyRow) + 4L * kvHead * d;
        long vAt = v.rowAddress(b.keyRow) + 4L * kvHead * d;
        long oAt = out.rowAddress(b.queryRow) + 4L * head * d;
        boolean single = b.queries == 1;
        if (single) {
            kernels.dots(scores, qAt, kAt, k.stride(), keys, d);
        } else {
            OneDnn.sgemm(false, true, b.queries, keys, d, 1, qAt, q.stride(), kAt, k.stride(), 0, scores, keys);
        }
        for (int r = 0; r < b.queries; r++) {
            int first = shape.firstSeen(b.end(r));
            int seen = b.end(r) - first;
            long row = scores + 4L * r * keys;
            long from = row + 4L * first;
            float factor = scale;
            if (softcap != 0) {
                kernels.softcap(from, from, scale, softcap, seen);
                factor = 1;
            }
            float max = kernels.max(from, seen) * factor;
            float sum = (float) kernels.exp(from, from, factor, max, seen);
            kernels.axpby(from, 1 / sum, from, 0, seen);
            zero(row, first);
            zero(row + 4L * b.end(r), keys - b.end(r));
            set(logSumExp.rowAddress(head) + 4L * (b.queryRow + r), max + (float) Math.log(sum));
        }
        if (single) {
            kernels.weightedSum(oAt, scores, vAt, v.stride(), keys, d);
        } else {
            OneDnn.sgemm(false, false, b.queries, d, keys, 1, scores, keys, vAt, v.stride(), 0, oAt, out.stride());
        }
    }

    private static void zero(long at, int n) {
        for (int i = 0; i < n; i++) {
            set(at + 4L * i, 0);
        }
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
            AttentionShape shape) {
        Block[] blocks = blocks(shape);
        int heads = shape.numHeads();
        int rows = Math.min(BLOCK, shape.queries());
        int n = k.rows();
        int width = k.cols();
        int share = Math.multiplyExact(n, width);
        try (Scope scope = scopes.newScope()) {
            int block = Math.multiplyExact(rows, longest(blocks));
            Tensor scores = scope.newTensor(DType.F32, 2 * workers.count(), block);
            Tensor capped = scope.newTensor(DType.F32, workers.count(), shape.softcap() == 0 ? 0 : longest(blocks));
            Tensor sums = scope.newTensor(DType.F32, 2 * workers.count(), share);
            workers.run((worker, count) -> {
                Tensor dkPart = sums.rows(2 * worker, 1).reshape(n, width);
                Tensor dvPart = sums.rows(2 * worker + 1, 1).reshape(n, width);
                zero(dkPart.address(), 2 * share);
                for (int t = 0; t < blocks.length * heads; t++) {
                    if (mine(t, worker, count)) {
                        backward(
                                dq,
                                dkPart,
                                dvPart,
                                dOut,
                                out,
                                logSumExp,
                                q,
                                k,
                                v,
                                shape,
                                blocks[t / heads],
                                t % heads,
                                scores.rowAddress(2 * worker),
                                scores.rowAddress(2 * worker + 1),
                                capped.rowAddress(worker));
                    }
                }
            });
            // in the order of workers, so that the sum is the same every time
            workers.run((worker, count) -> {
                int to = Workers.from(n, 1, worker + 1, count);
                for (int r = Workers.from(n, 1, worker, count); r < to; r++) {
                    for (int w = 0; w < count; w++) {
                        float beta = w == 0 ? 0 : 1;
                        kernels.axpby(dk.rowAddress(r), 1, sums.rowAddress(2 * w) + 4L * r * width, beta, width);
                        kernels.axpby(dv.rowAddress(r), 1, sums.rowAddress(2 * w + 1) + 4L * r * width, beta, width);
                    }
                }
            });
        }
    }

    private void backward(
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
            Block b,
            int head,
            long scores,
            long dScores,
            long capped) {
        int d = shape.headDim();
        int kvHead = head / (shape.numHeads() / shape.numKvHeads());
        int keys = b.keys();
        long qAt = q.rowAddress(b.queryRow) + 4L * head * d;
        long kAt = k.rowAddress(b.keyRow) + 4L * kvHead * d;
        long vAt = v.rowAddress(b.keyRow) + 4L * kvHead * d;
        long dOutAt = dOut.rowAddress(b.queryRow) + 4L * head * d;
        OneDnn.sgemm(false, true, b.queries, keys, d, 1, qAt, q.stride(), kAt, k.stride(), 0, scores, keys);
        OneDnn.sgemm(false, true, b.queries, keys, d, 1, dOutAt, dOut.stride(), vAt, v.stride(), 0, dScores, keys);
        for (int r = 0; r < b.queries; r++) {
            int first = shape.firstSeen(b.end(r));
            int seen = b.end(r) - first;
            long p = scores + 4L * r * keys;
            long dp = dScores + 4L * r * keys;
            float lse = get(logSumExp.rowAddress(head) + 4L * (b.queryRow + r));
            float delta =
                    kernels.dot(dOutAt + 4L * r * dOut.stride(), out.rowAddress(b.queryRow + r) + 4L * head * d, d);
            softmaxBackward(p + 4L * first, dp + 4L * first, lse, delta, shape, capped, seen);
            zero(p, first);
            zero(dp, first);
            zero(p + 4L * b.end(r), keys - b.end(r));
            zero(dp + 4L * b.end(r), keys - b.end(r));
        }
        long dkAt = dk.rowAddress(b.keyRow) + 4L * kvHead * d;
        long dvAt = dv.rowAddress(b.keyRow) + 4L * kvHead * d;
        OneDnn.sgemm(true, false, keys, d, b.queries, 1, scores, keys, dOutAt, dOut.stride(), 1, dvAt, dv.stride());
        OneDnn.sgemm(true, false, keys, d, b.queries, 1, dScores, keys, qAt, q.stride(), 1, dkAt, dk.stride());
        OneDnn.sgemm(
                false,
                false,
                b.queries,
                d,
                keys,
                1,
                dScores,
                keys,
                kAt,
                k.stride(),
                0,
                dq.rowAddress(b.queryRow) + 4L * head * d,
                dq.stride());
    }

    /** {@link Kernels#softmaxBackward}, through the softcap if there is one. @param capped room for n scores */
    private void softmaxBackward(
            long scores, long dp, float lse, float delta, AttentionShape shape, long capped, int n) {
        float scale = (float) shape.scale();
        float softcap = (float) shape.softcap();
        if (softcap == 0) {
            kernels.softmaxBackward(scores, dp, lse, delta, scale, n);
            return;
        }
        kernels.softcap(capped, scores, scale, softcap, n);
        kernels.axpby(scores, 1, capped, 0, n);
        kernels.softmaxBackward(scores, dp, lse, delta, 1, n);
        kernels.softcapBackward(dp, dp, capped, scale, softcap, n);
    }
}
