// Attention of a few queries over many keys, as in decoding: the keys are split over blocks, and a second kernel merges
// their results by the sums of their softmaxes (flash-decoding, https://pytorch.org/blog/flash-decoding/).
// Rows are queries with all heads of a group, so that keys and values are read once for the group: row r of a sequence
// is query r / group, head kvHead * group + r % group. Split n of a sequence has the splitKeys keys from
// n * splitKeys on, counted from the first key that its first query sees; splitKeys is a multiple of 16.
#include "attention.cuh"

/**
 * partial fp32 [splits, queries, heads, headDim]: each split's result; partialLse fp32 [splits, queries, heads], minus
 * infinity where a split has no key for the query: partial is undefined there. A block has 16 rows of one split and key
 * head; each of its WARPS warps takes 16 keys at a time for itself and loads the next ones ahead.
 * Grid: (sequences * splits, row tiles * key heads).
 */
template <int D, int WARPS>
__device__ __forceinline__ void attentionDecode(
        float* partial, float* partialLse, int queries, int heads, int splits, int splitKeys, Attention it) {
    const int ROWS = 16, KEYS = 16, TILE = 16 * (D + 8);
    DYNAMIC_SHARED(bf16, shared);
    const Lane at = laneOf(threadIdx.x);
    bf16 *sQ = shared, *stages = sQ + TILE + at.warp * 4 * TILE; // a stage: keys, then values
    const int kvHeads = heads / it.group, kvHead = blockIdx.y % kvHeads;
    const int split = blockIdx.x % splits;
    const Sequence sequence = sequenceAt(blockIdx.x / splits, it.queryOffsets, it.keyOffsets);
    const int firstRow = blockIdx.y / kvHeads * ROWS, rows = min(ROWS, sequence.queries * it.group - firstRow);
    if (rows <= 0) {
        return;
    }
    const int firstKey = max(0, sequence.past - it.window + 1) + split * splitKeys;
    const int endKey = min(sequence.keys, firstKey + splitKeys);
    const Rows k = rowsOf(it.k, it.kStride, sequence.firstKey, kvHead, it.headDim);
    const Rows v = rowsOf(it.v, it.vStride, sequence.firstKey, kvHead, it.headDim);
    const Score score = scoreOf(it.scale, it.softcap);

    for (int i = threadIdx.x; i < ROWS * (D / 8); i += WARPS * 32) {
        const int row = i / (D / 8), column = i % (D / 8) * 8, groupRow = firstRow + row;
        const int head = kvHead * it.group + groupRow % it.group;
        copy8(sQ + row * (D + 8) + column, rowsOf(it.q, it.qStride, sequence.firstQuery, head, it.headDim),
                groupRow / it.group, column, row < rows);
    }
    int key = firstKey + at.warp * KEYS;
    loadTile<D, KEYS, 32>(stages, k, key, endKey, at.lane);
    loadTile<D, KEYS, 32>(stages + TILE, v, key, endKey, at.lane);
    commitCopies();
    waitCopies<0>();
    __syncthreads(); // the queries are here; from now on each warp is for itself
    float sums[D / 8][4];
    clear<D / 8>(sums);
    Softmax softmax = emptySoftmax();
    for (int stage = 0; key < endKey; key += WARPS * KEYS, stage ^= 1) {
        const bf16 *sK = stages + stage * 2 * TILE, *sV = sK + TILE;
        if (key + WARPS * KEYS < endKey) {
            bf16* next = stages + (stage ^ 1) * 2 * TILE;
            loadTile<D, KEYS, 32>(next, k, key + WARPS * KEYS, endKey, at.lane);
            loadTile<D, KEYS, 32>(next + TILE, v, key + WARPS * KEYS, endKey, at.lane);
        }
        commitCopies();
        waitCopies<1>();
        __syncwarp(); // this stage is here
        float p[KEYS / 8][4];
        multiplyTransposed<D, KEYS>(p, sQ, sK, at.lane);
        exponentsOf<KEYS / 8>(score, p);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int seenKey = key + n * 8 + at.column + e % 2;
                const int position = sequence.past + (firstRow + at.row + e / 2 * 8) / it.group;
                if (!sees(position, seenKey, it.window)) {
                    p[n][e] = -infinity();
                }
            }
        }
        addToSoftmax<KEYS, D>(softmax, p, sums);
        multiplyAdd<D, KEYS, D>(sums, p, sV, at.lane);
        __syncwarp(); // nobody needs this stage any more
    }
    __syncthreads(); // shared memory becomes the warps' results: [WARPS, 16] maxima, sums, and [WARPS, 16, D] values

    float *maxima = (float*) shared, *totals = maxima + WARPS * ROWS, *values = totals + WARPS * ROWS;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = at.warp * ROWS + at.row + half * 8;
        const float total = quadSum(softmax.sum[half]);
        if (at.column == 0) {
            maxima[row] = softmax.max[half];
            totals[row] = total;
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            values[row * D + n * 8 + at.column] = sums[n][2 * half];
            values[row * D + n * 8 + at.column + 1] = sums[n][2 * half + 1];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * D; i += WARPS * 32) {
        const int row = i / D, column = i % D, groupRow = firstRow + row;
        float max = -infinity();
        for (int w = 0; w < WARPS; w++) {
            max = fmaxf(max, maxima[w * ROWS + row]);
        }
        float total = 0.f, value = 0.f;
        for (int w = 0; w < WARPS; w++) {
            const float factor = max == -infinity() ? 0.f : powerOfTwo(maxima[w * ROWS + row] - max);
            total += factor * totals[w * ROWS + row];
            value += factor * values[(w * ROWS + row) * D + column];
        }
        const i64 result = ((i64) split * queries + sequence.firstQuery + groupRow / it.group) * heads
                + kvHead * it.group + groupRow % it.group;
        if (column < it.headDim) {
            partial[result * it.headDim + column] = value / total;
        }
        if (column == 0) {
            partialLse[result] = max * LN2 + logf(total);
        }
    }
}

/** Merges the splits' results. One block of 128 for each query and head. Grid: (queries, heads). */
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_decode_merge(bf16* out, int outStride,
        float* lse, int lseStride, const float* partial, const float* partialLse, int splits, int headDim) {
    const int query = blockIdx.x, head = blockIdx.y;
    const i64 step = (i64) gridDim.x * gridDim.y, row = (i64) query * gridDim.y + head;
    float max = -infinity();
    for (int n = 0; n < splits; n++) {
        max = fmaxf(max, partialLse[n * step + row]);
    }
    float total = 0.f;
    for (int n = 0; n < splits; n++) {
        total += expf(partialLse[n * step + row] - max);
    }
    for (int d = threadIdx.x; d < headDim; d += blockDim.x) {
        float value = 0.f;
        for (int n = 0; n < splits; n++) {
            const float weight = expf(partialLse[n * step + row] - max);
            if (weight > 0.f) {
                value += weight * partial[(n * step + row) * headDim + d];
            }
        }
        out[(i64) query * outStride + (i64) head * headDim + d] = toBf16(value / total);
    }
    if (threadIdx.x == 0) {
        lse[(i64) head * lseStride + query] = max + logf(total);
    }
}

// The kernels by width; CudaAttention has the same numbers of warps.
#define ATTENTION_DECODE_KERNEL(D, WARPS)                                                                              \
    extern "C" __global__ void __launch_bounds__(WARPS * 32) attention_decode_##D(float* partial, float* partialLse,   \
            int queries, int heads, int splits, int splitKeys, ATTENTION_PARAMETERS) {                                 \
        attentionDecode<D, WARPS>(partial, partialLse, queries, heads, splits, splitKeys, ATTENTION_ARGUMENT);         \
    }

ATTENTION_DECODE_KERNEL(64, 4)
ATTENTION_DECODE_KERNEL(128, 4)
ATTENTION_DECODE_KERNEL(256, 2)
