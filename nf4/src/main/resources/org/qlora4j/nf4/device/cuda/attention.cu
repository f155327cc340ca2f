// Causal attention on tensor cores, forward and backward, without the matrix of scores (FlashAttention-2, Dao 2023,
// https://arxiv.org/abs/2307.08691). A block has 4 warps; a warp has 16 rows of a tile. Kernels are named by their width
// D, the largest head size they take: the columns behind a smaller head are zeros in shared memory and never stored.
// q, out and their gradients [queries, heads · headDim], k, v and theirs [keys, kvHeads · headDim], lse and delta
// fp32 [heads, queries]; query head h uses key head h / group. window is huge for none, softcap 0 for none.
// Sums are fp32; probabilities and score gradients are rounded to bf16 where they enter the next product.
#include "attention.cuh"

/**
 * A block's tile is 64 queries of one head; it passes over the keys they see, KEYS at a time. While it computes with
 * keys, their values arrive, and the next keys while it computes with values. Grid: (query tiles, heads).
 */
template <int D, int KEYS>
__device__ __forceinline__ void attentionForward(bf16* out, i64 outStride, float* lse, i64 lseStride, Attention it) {
    const int QUERIES = 64;
    DYNAMIC_SHARED(bf16, shared);
    bf16 *sQ = shared, *sK = sQ + QUERIES * (D + 8), *sV = sK + KEYS * (D + 8);
    const Lane at = laneOf(threadIdx.x);
    const int head = blockIdx.y;
    const int tile = gridDim.x - 1 - blockIdx.x; // a sequence's last queries see the most keys: they start first
    const int s = sequenceOfTile(tile, QUERIES, it.queryOffsets, it.sequences);
    const int firstRow = firstRowOfTile(tile, QUERIES, it.queryOffsets, s);
    const Sequence sequence = sequenceAt(s, it.queryOffsets, it.keyOffsets);
    if (firstRow >= sequence.queries) {
        return;
    }
    const int firstPosition = sequence.past + firstRow;
    const int firstKey = max(0, firstPosition - it.window + 1);
    const int endKey = min(sequence.keys, firstPosition + QUERIES);
    const Rows q = rowsOf(it.q, it.qStride, sequence.firstQuery, head, it.headDim);
    const Rows k = rowsOf(it.k, it.kStride, sequence.firstKey, head / it.group, it.headDim);
    const Rows v = rowsOf(it.v, it.vStride, sequence.firstKey, head / it.group, it.headDim);
    const Score score = scoreOf(it.scale, it.softcap);

    loadTile<D, QUERIES, ATTENTION_THREADS>(sQ, q, firstRow, sequence.queries, threadIdx.x);
    loadTile<D, KEYS, ATTENTION_THREADS>(sK, k, firstKey, endKey, threadIdx.x);
    commitCopies();
    float sums[D / 8][4];
    clear<D / 8>(sums);
    Softmax softmax = emptySoftmax();
    for (int key = firstKey; key < endKey; key += KEYS) {
        waitCopies<0>();
        __syncthreads(); // the keys are here, and nobody needs the last values any more
        loadTile<D, KEYS, ATTENTION_THREADS>(sV, v, key, endKey, threadIdx.x);
        commitCopies();
        float p[KEYS / 8][4];
        multiplyTransposed<D, KEYS>(p, sQ + at.warp * 16 * (D + 8), sK, at.lane);
        exponentsOf<KEYS / 8>(score, p);
        if (key + KEYS - 1 > firstPosition || key <= firstPosition + QUERIES - 1 - it.window) {
            hideKeys<KEYS / 8>(p, firstPosition + at.warp * 16, key, it.window, at);
        }
        addToSoftmax<KEYS, D>(softmax, p, sums);
        waitCopies<0>();
        __syncthreads(); // the values are here, and nobody needs the keys any more
        if (key + KEYS < endKey) {
            loadTile<D, KEYS, ATTENTION_THREADS>(sK, k, key + KEYS, endKey, threadIdx.x);
        }
        commitCopies();
        multiplyAdd<D, KEYS, D>(sums, p, sV, at.lane);
    }

    float factor[2];
    const int row = sequence.firstQuery + firstRow + at.warp * 16;
    const int rowsLeft = sequence.queries - firstRow - at.warp * 16;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float sum = quadSum(softmax.sum[half]);
        factor[half] = 1.f / sum;
        if (at.column == 0 && at.row + half * 8 < rowsLeft) {
            lse[head * lseStride + row + at.row + half * 8] = softmax.max[half] * LN2 + logf(sum);
        }
    }
    storeSums<D>(out + row * outStride + (i64) head * it.headDim, outStride, rowsLeft, it.headDim, sums, factor, at);
}

/** delta [heads, queries] = Σ dOut ⊙ out of each row's head; one warp each. Grid: (queries / 4 rounded up, heads). */
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_delta(float* delta, int deltaStride,
        const bf16* dOut, int dOutStride, const bf16* out, int outStride, int queries, int headDim) {
    const int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.y;
    if (row >= queries) {
        return;
    }
    const bf16* a = dOut + (i64) row * dOutStride + (i64) head * headDim;
    const bf16* b = out + (i64) row * outStride + (i64) head * headDim;
    float sum = 0.f;
    for (int d = lane; d < headDim; d += 32) {
        sum += toFloat(a[d]) * toFloat(b[d]);
    }
    sum = warpSum(sum);
    if (lane == 0) {
        delta[(i64) head * deltaStride + row] = sum;
    }
}

/** As hideKeys, of exponents [16 keys, N·8 queries]. */
template <int N>
__device__ __forceinline__ void hideQueries(float p[N][4], int position, int key, int window, Lane at) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (!sees(position + n * 8 + at.column + e % 2, key + at.row + e / 2 * 8, window)) {
                p[n][e] = -infinity();
            }
        }
    }
}

/**
 * A block's tile is KEYS keys of one key head; it passes over the queries that see them in all heads of the group,
 * QUERIES at a time: dV = pᵀ·dOut, dK = dsᵀ·q · scale with ds = p ⊙ (dOut·vᵀ - delta). With 32 keys two warps have the
 * same 16 keys and add up one half of the columns each. Queries and dOut are loaded one tile ahead.
 * Grid: (key tiles, key heads).
 */
template <int D, int KEYS, int QUERIES>
__device__ __forceinline__ void attentionBackwardKeys(
        bf16* dk, i64 dkStride, bf16* dv, i64 dvStride, Upstream up, Attention it) {
    const int KEY_WARPS = KEYS / 16, COLUMNS = D * KEY_WARPS / 4;
    const int STAGE = 2 * QUERIES * (D + 8); // q, then dOut
    DYNAMIC_SHARED(bf16, shared);
    bf16 *sK = shared, *sV = sK + KEYS * (D + 8), *stages = sV + KEYS * (D + 8);
    float* statistics = (float*) (stages + 2 * STAGE); // of each stage: the rows' lse in base 2, then their delta
    const Lane at = laneOf(threadIdx.x);
    const int warpKey = at.warp % KEY_WARPS * 16, column = at.warp / KEY_WARPS * COLUMNS;
    const int kvHead = blockIdx.y;
    const int s = sequenceOfTile(blockIdx.x, KEYS, it.keyOffsets, it.sequences);
    const int firstKey = firstRowOfTile(blockIdx.x, KEYS, it.keyOffsets, s);
    const Sequence sequence = sequenceAt(s, it.queryOffsets, it.keyOffsets);
    if (firstKey >= sequence.keys) {
        return;
    }
    const int firstQuery = max(0, firstKey - sequence.past);
    const int endQuery = min(sequence.queries, firstKey + KEYS - 1 + it.window - sequence.past);
    const int tiles = max(0, (endQuery - firstQuery + QUERIES - 1) / QUERIES); // of each head
    const Score score = scoreOf(it.scale, it.softcap);

    loadTile<D, KEYS, ATTENTION_THREADS>(sK,
            rowsOf(it.k, it.kStride, sequence.firstKey, kvHead, it.headDim), firstKey, sequence.keys, threadIdx.x);
    loadTile<D, KEYS, ATTENTION_THREADS>(sV,
            rowsOf(it.v, it.vStride, sequence.firstKey, kvHead, it.headDim), firstKey, sequence.keys, threadIdx.x);
    float sumsK[COLUMNS / 8][4], sumsV[COLUMNS / 8][4];
    clear<COLUMNS / 8>(sumsK);
    clear<COLUMNS / 8>(sumsV);
    for (int step = -1; step < it.group * tiles; step++) {
        waitCopies<0>();
        __syncthreads(); // this step's stage is here, and nobody needs the last one any more
        const int next = step + 1;
        if (next < it.group * tiles) {
            const int head = kvHead * it.group + next / tiles, query = firstQuery + next % tiles * QUERIES;
            bf16* stage = stages + next % 2 * STAGE;
            loadTile<D, QUERIES, ATTENTION_THREADS>(stage,
                    rowsOf(it.q, it.qStride, sequence.firstQuery, head, it.headDim), query, endQuery, threadIdx.x);
            loadTile<D, QUERIES, ATTENTION_THREADS>(stage + STAGE / 2,
                    rowsOf(up.dOut, up.dOutStride, sequence.firstQuery, head, it.headDim), query, endQuery,
                    threadIdx.x);
            if (threadIdx.x < 2 * QUERIES) {
                const int row = query + threadIdx.x % QUERIES;
                float value = 0.f; // rows behind the end have q and dOut 0, and so no part in any sum
                if (row < endQuery) {
                    value = threadIdx.x < QUERIES
                            ? up.lse[head * up.lseStride + sequence.firstQuery + row] * LOG2E
                            : up.delta[head * up.deltaStride + sequence.firstQuery + row];
                }
                statistics[next % 2 * 2 * QUERIES + threadIdx.x] = value;
            }
        }
        commitCopies();
        if (step < 0) {
            continue;
        }
        const bf16 *sQ = stages + step % 2 * STAGE, *sD = sQ + STAGE / 2;
        const float *sLse = statistics + step % 2 * 2 * QUERIES, *sDelta = sLse + QUERIES;
        const int position = sequence.past + firstQuery + step % tiles * QUERIES;
        float p[QUERIES / 8][4], ds[QUERIES / 8][4]; // transposed: rows are keys, columns are queries
        multiplyTransposed<D, QUERIES>(p, sK + warpKey * (D + 8), sQ, at.lane);
        multiplyTransposed<D, QUERIES>(ds, sV + warpKey * (D + 8), sD, at.lane);
        exponentsOf<QUERIES / 8>(score, p);
#pragma unroll
        for (int n = 0; n < QUERIES / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                ds[n][e] -= sDelta[n * 8 + at.column + e % 2];
            }
        }
        timesCapGradient<QUERIES / 8>(score, ds, p);
        if (firstKey + KEYS - 1 > position || firstKey <= position + QUERIES - 1 - it.window) {
            hideQueries<QUERIES / 8>(p, position, firstKey + warpKey, it.window, at);
        }
#pragma unroll
        for (int n = 0; n < QUERIES / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                p[n][e] = powerOfTwo(p[n][e] - sLse[n * 8 + at.column + e % 2]);
                ds[n][e] *= p[n][e];
            }
        }
        multiplyAdd<D, QUERIES, COLUMNS>(sumsV, p, sD + column, at.lane);
        multiplyAdd<D, QUERIES, COLUMNS>(sumsK, ds, sQ + column, at.lane);
    }
    waitCopies<0>(); // of keys that no query sees

    const float one[2] = {1.f, 1.f}, scale[2] = {it.scale, it.scale};
    const i64 row = sequence.firstKey + firstKey + warpKey, first = (i64) kvHead * it.headDim + column;
    const int rowsLeft = sequence.keys - firstKey - warpKey;
    storeSums<COLUMNS>(dk + row * dkStride + first, dkStride, rowsLeft, it.headDim - column, sumsK, scale, at);
    storeSums<COLUMNS>(dv + row * dvStride + first, dvStride, rowsLeft, it.headDim - column, sumsV, one, at);
}

/**
 * A block's tile is 64 queries of one head; it passes over the keys they see, KEYS at a time, which are loaded one tile
 * ahead: dQ = ds·k · scale. Grid: (query tiles, heads).
 */
template <int D, int KEYS>
__device__ __forceinline__ void attentionBackwardQueries(bf16* dq, i64 dqStride, Upstream up, Attention it) {
    const int QUERIES = 64;
    const int STAGE = 2 * KEYS * (D + 8); // keys, then values
    DYNAMIC_SHARED(bf16, shared);
    bf16 *sQ = shared, *sD = sQ + QUERIES * (D + 8), *stages = sD + QUERIES * (D + 8);
    const Lane at = laneOf(threadIdx.x);
    const int head = blockIdx.y, tile = gridDim.x - 1 - blockIdx.x;
    const int s = sequenceOfTile(tile, QUERIES, it.queryOffsets, it.sequences);
    const int firstRow = firstRowOfTile(tile, QUERIES, it.queryOffsets, s);
    const Sequence sequence = sequenceAt(s, it.queryOffsets, it.keyOffsets);
    if (firstRow >= sequence.queries) {
        return;
    }
    const int firstPosition = sequence.past + firstRow;
    const int firstKey = max(0, firstPosition - it.window + 1);
    const int endKey = min(sequence.keys, firstPosition + QUERIES);
    const Rows k = rowsOf(it.k, it.kStride, sequence.firstKey, head / it.group, it.headDim);
    const Rows v = rowsOf(it.v, it.vStride, sequence.firstKey, head / it.group, it.headDim);
    const Score score = scoreOf(it.scale, it.softcap);

    loadTile<D, QUERIES, ATTENTION_THREADS>(sQ,
            rowsOf(it.q, it.qStride, sequence.firstQuery, head, it.headDim), firstRow, sequence.queries, threadIdx.x);
    loadTile<D, QUERIES, ATTENTION_THREADS>(sD,
            rowsOf(up.dOut, up.dOutStride, sequence.firstQuery, head, it.headDim), firstRow, sequence.queries,
            threadIdx.x);
    loadTile<D, KEYS, ATTENTION_THREADS>(stages, k, firstKey, endKey, threadIdx.x);
    loadTile<D, KEYS, ATTENTION_THREADS>(stages + STAGE / 2, v, firstKey, endKey, threadIdx.x);
    commitCopies();
    const int row = sequence.firstQuery + firstRow + at.warp * 16;
    const int rowsLeft = sequence.queries - firstRow - at.warp * 16;
    float lse[2], delta[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const bool inside = at.row + half * 8 < rowsLeft;
        lse[half] = inside ? up.lse[head * up.lseStride + row + at.row + half * 8] * LOG2E : 0.f;
        delta[half] = inside ? up.delta[head * up.deltaStride + row + at.row + half * 8] : 0.f;
    }
    float sums[D / 8][4];
    clear<D / 8>(sums);
    int step = 0;
    for (int key = firstKey; key < endKey; key += KEYS, step ^= 1) {
        waitCopies<0>();
        __syncthreads(); // this step's stage is here, and nobody needs the last one any more
        const bf16 *sK = stages + step * STAGE, *sV = sK + STAGE / 2;
        if (key + KEYS < endKey) {
            bf16* stage = stages + (step ^ 1) * STAGE;
            loadTile<D, KEYS, ATTENTION_THREADS>(stage, k, key + KEYS, endKey, threadIdx.x);
            loadTile<D, KEYS, ATTENTION_THREADS>(stage + STAGE / 2, v, key + KEYS, endKey, threadIdx.x);
        }
        commitCopies();
        float p[KEYS / 8][4], ds[KEYS / 8][4];
        multiplyTransposed<D, KEYS>(p, sQ + at.warp * 16 * (D + 8), sK, at.lane);
        multiplyTransposed<D, KEYS>(ds, sD + at.warp * 16 * (D + 8), sV, at.lane);
        exponentsOf<KEYS / 8>(score, p);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                ds[n][e] -= delta[e / 2];
            }
        }
        timesCapGradient<KEYS / 8>(score, ds, p);
        if (key + KEYS - 1 > firstPosition || key <= firstPosition + QUERIES - 1 - it.window) {
            hideKeys<KEYS / 8>(p, firstPosition + at.warp * 16, key, it.window, at);
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                ds[n][e] *= powerOfTwo(p[n][e] - lse[e / 2]);
            }
        }
        multiplyAdd<D, KEYS, D>(sums, ds, sK, at.lane);
    }
    const float scale[2] = {it.scale, it.scale};
    storeSums<D>(dq + row * dqStride + (i64) head * it.headDim, dqStride, rowsLeft, it.headDim, sums, scale, at);
}

// The kernels by width; CudaAttention has the same tile sizes.
#define ATTENTION_KERNELS(D, FORWARD_KEYS, KEYS, QUERIES, QUERY_KEYS)                                                  \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)                                                    \
            attention_forward_##D(bf16* out, int outStride, float* lse, int lseStride, ATTENTION_PARAMETERS) {         \
        attentionForward<D, FORWARD_KEYS>(out, outStride, lse, lseStride, ATTENTION_ARGUMENT);                         \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_backward_keys_##D(                       \
            bf16* dk, int dkStride, bf16* dv, int dvStride, UPSTREAM_PARAMETERS, ATTENTION_PARAMETERS) {               \
        attentionBackwardKeys<D, KEYS, QUERIES>(dk, dkStride, dv, dvStride, UPSTREAM_ARGUMENT, ATTENTION_ARGUMENT);    \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)                                                    \
            attention_backward_queries_##D(bf16* dq, int dqStride, UPSTREAM_PARAMETERS, ATTENTION_PARAMETERS) {        \
        attentionBackwardQueries<D, QUERY_KEYS>(dq, dqStride, UPSTREAM_ARGUMENT, ATTENTION_ARGUMENT);                  \
    }

ATTENTION_KERNELS(64, 64, 64, 64, 64)
ATTENTION_KERNELS(128, 64, 64, 32, 32)
ATTENTION_KERNELS(256, 32, 32, 16, 16)
