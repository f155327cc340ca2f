// What the attention kernels share: sequences that lie one behind the other, scores, and tiles for the tensor cores.
// A tile is rows of bf16 in shared memory, 8 elements apart from each other so that ldmatrix meets no bank twice.
#pragma once
#include "common.cuh"

#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f
#define ATTENTION_THREADS 128

/**
 * What every attention kernel takes. q and out [queries, heads · headDim], k and v [keys, kvHeads · headDim], and so
 * their gradients; query head h uses key head h / group. window is 2^30 for none, softcap 0 for none.
 */
struct Attention {
    const bf16 *q, *k, *v;
    int qStride, kStride, vStride;
    const int *queryOffsets, *keyOffsets;
    int sequences, group, headDim, window;
    float scale, softcap;
};

#define ATTENTION_PARAMETERS                                                                                           \
    const bf16 *q, int qStride, const bf16 *k, int kStride, const bf16 *v, int vStride, const int *queryOffsets,       \
            const int *keyOffsets, int sequences, int group, int headDim, int window, float scale, float softcap
#define ATTENTION_ARGUMENT                                                                                             \
    Attention {                                                                                                        \
        q, k, v, qStride, kStride, vStride, queryOffsets, keyOffsets, sequences, group, headDim, window, scale,        \
                softcap                                                                                                \
    }

/** What backward takes beside: the gradient of out, and lse and delta, fp32 [heads, queries]. */
struct Upstream {
    const bf16* dOut;
    i64 dOutStride;
    const float* lse;
    i64 lseStride;
    const float* delta;
    i64 deltaStride;
};

#define UPSTREAM_PARAMETERS                                                                                            \
    const bf16 *dOut, int dOutStride, const float *lse, int lseStride, const float *delta, int deltaStride
#define UPSTREAM_ARGUMENT                                                                                              \
    Upstream { dOut, dOutStride, lse, lseStride, delta, deltaStride }

/** One sequence's rows. Its queries are the last ones of its keys: query i stands at the place of key past + i. */
struct Sequence {
    int firstQuery, queries, firstKey, keys, past;
};

__device__ __forceinline__ Sequence sequenceAt(int s, const int* queryOffsets, const int* keyOffsets) {
    Sequence it;
    it.firstQuery = queryOffsets[s];
    it.queries = queryOffsets[s + 1] - it.firstQuery;
    it.firstKey = keyOffsets[s];
    it.keys = keyOffsets[s + 1] - it.firstKey;
    it.past = it.keys - it.queries;
    return it;
}

/**
 * The sequence that a tile of `rows` rows belongs to. Sequence s owns the tiles from offsets[s] / rows + s on: at least
 * as many as it needs, at most one more, so that a grid of offsets[sequences] / rows + sequences tiles is enough.
 */
__device__ __forceinline__ int sequenceOfTile(int tile, int rows, const int* offsets, int sequences) {
    int low = 0, high = sequences - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (offsets[middle] / rows + middle <= tile) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/** First row of a tile within its sequence; a sequence's last tile may have none. */
__device__ __forceinline__ int firstRowOfTile(int tile, int rows, const int* offsets, int s) {
    return (tile - (offsets[s] / rows + s)) * rows;
}

/** Whether the query at a position sees a key. */
__device__ __forceinline__ bool sees(int position, int key, int window) {
    return key <= position && key > position - window;
}

/** From q·k to the exponent of 2 in the softmax: log2(e)·scale·q·k, or log2(e)·cap·tanh(scale·q·k / cap). */
struct Score {
    float inner, outer; // outer is 0 without a cap
};

__device__ __forceinline__ Score scoreOf(float scale, float softcap) {
    Score it;
    it.inner = softcap == 0.f ? scale * LOG2E : scale / softcap;
    it.outer = softcap * LOG2E;
    return it;
}

__device__ __forceinline__ float exponentOf(Score score, float dot) {
    const float x = dot * score.inner;
    return score.outer == 0.f ? x : score.outer * tanhf(x);
}

/** Derivative of the cap where it gave this exponent. */
__device__ __forceinline__ float capGradient(Score score, float exponent) {
    const float tanh = score.outer == 0.f ? 0.f : exponent / score.outer;
    return 1.f - tanh * tanh;
}

/** Products q·k become exponents; the cap is asked for once. */
template <int N> __device__ __forceinline__ void exponentsOf(Score score, float p[N][4]) {
    if (score.outer == 0.f) {
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                p[n][e] *= score.inner;
            }
        }
    } else {
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                p[n][e] = exponentOf(score, p[n][e]);
            }
        }
    }
}

/** Gradients by the capped scores become gradients by the scores. */
template <int N>
__device__ __forceinline__ void timesCapGradient(Score score, float ds[N][4], const float exponents[N][4]) {
    if (score.outer != 0.f) {
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                ds[n][e] *= capGradient(score, exponents[n][e]);
            }
        }
    }
}

#ifdef __CUDA_ARCH__
/** 2 to the x by the hardware's instruction: 2 ulp, and 0 below 2^-126. */
__device__ __forceinline__ float powerOfTwo(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
#else
inline float powerOfTwo(float x) {
    return exp2f(x);
}
#endif

/** The place of a thread's elements in a 16 x 8 block of an mma result: rows row and row + 8, columns column and + 1. */
struct Lane {
    int warp, lane, row, column;
};

__device__ __forceinline__ Lane laneOf(int thread) {
    Lane it;
    it.warp = thread / 32;
    it.lane = thread % 32;
    it.row = it.lane / 4;
    it.column = it.lane % 4 * 2;
    return it;
}

/** Exponents [16 queries, N·8 keys] of what is not seen become minus infinity, from a warp's first position and key on. */
template <int N>
__device__ __forceinline__ void hideKeys(float p[N][4], int position, int key, int window, Lane at) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (!sees(position + at.row + e / 2 * 8, key + n * 8 + at.column + e % 2, window)) {
                p[n][e] = -infinity();
            }
        }
    }
}

/** A matrix in global memory: one head's columns, and whether 16-byte copies may read it. */
struct Rows {
    const bf16* first;
    i64 stride;
    int columns;
    bool vectors;
};

__device__ __forceinline__ Rows rowsOf(const bf16* matrix, i64 stride, int firstRow, int head, int headDim) {
    Rows it;
    it.first = matrix + firstRow * stride + (i64) head * headDim;
    it.stride = stride;
    it.columns = headDim;
    it.vectors = (((u64) it.first | (u64) (stride * 2)) & 15) == 0 && headDim % 8 == 0;
    return it;
}

/** Copies 8 elements of a row to a tile, or zeros if the row is outside; columns behind the head's become 0. */
__device__ __forceinline__ void copy8(bf16* to, Rows from, int row, int column, bool inside) {
    const bf16* element = from.first + (inside ? row : 0) * from.stride;
    if (from.vectors) {
        inside = inside && column < from.columns;
        copyAsync16(to, element + (inside ? column : 0), inside);
    } else {
        for (int e = 0; e < 8; e++) {
            to[e] = inside && column + e < from.columns ? element[column + e] : (bf16) 0;
        }
    }
}

/** Starts the copy of rows first … first + ROWS - 1 to a tile by THREADS threads; rows from `end` on become 0. */
template <int D, int ROWS, int THREADS>
__device__ __forceinline__ void loadTile(bf16* tile, Rows from, int first, int end, int thread) {
    for (int i = thread; i < ROWS * (D / 8); i += THREADS) {
        int row = i / (D / 8), column = i % (D / 8) * 8;
        copy8(tile + row * (D + 8) + column, from, first + row, column, first + row < end);
    }
}

template <int N> __device__ __forceinline__ void clear(float sums[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++) {
        sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0.f;
    }
}

/** sums [16, ROWS] = a [16, D] · b [ROWS, D]ᵀ, both tiles. */
template <int D, int ROWS>
__device__ __forceinline__ void multiplyTransposed(float sums[ROWS / 8][4], const bf16* a, const bf16* b, int lane) {
    const int PITCH = D + 8;
    clear<ROWS / 8>(sums);
    a += lane % 16 * PITCH + lane / 16 * 8;
    b += (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        u32 left[4];
        loadMatrices(left, a + k);
#pragma unroll
        for (int n = 0; n < ROWS / 16; n++) {
            u32 right[4];
            loadMatrices(right, b + n * 16 * PITCH + k);
            mma16x8x16(sums[2 * n], left, right[0], right[1]);
            mma16x8x16(sums[2 * n + 1], left, right[2], right[3]);
        }
    }
}

/** sums [16, COLUMNS] += bf16(p) [16, ROWS] · b [ROWS, COLUMNS]; b is a tile of D columns. */
template <int D, int ROWS, int COLUMNS>
__device__ __forceinline__ void multiplyAdd(
        float sums[COLUMNS / 8][4], const float p[ROWS / 8][4], const bf16* b, int lane) {
    const int PITCH = D + 8;
    b += lane % 16 * PITCH + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < ROWS / 16; k++) {
        // an mma result of 16 columns has its elements where the left operand of the next mma wants them
        u32 left[4] = {
            packBf16(p[2 * k][0], p[2 * k][1]),
            packBf16(p[2 * k][2], p[2 * k][3]),
            packBf16(p[2 * k + 1][0], p[2 * k + 1][1]),
            packBf16(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < COLUMNS / 16; n++) {
            u32 right[4];
            loadMatricesTransposed(right, b + k * 16 * PITCH + n * 16);
            mma16x8x16(sums[2 * n], left, right[0], right[1]);
            mma16x8x16(sums[2 * n + 1], left, right[2], right[3]);
        }
    }
}

/** Running softmax of a thread's two rows: the largest exponent so far, and this thread's part of the sum. */
struct Softmax {
    float max[2], sum[2];
};

__device__ __forceinline__ Softmax emptySoftmax() {
    Softmax it;
    it.max[0] = it.max[1] = -infinity();
    it.sum[0] = it.sum[1] = 0.f;
    return it;
}

/** Largest of, and sum over, the four threads that share a row. */
__device__ __forceinline__ float quadMax(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

__device__ __forceinline__ float quadSum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/** Exponents become probabilities up to the sum; what was added before shrinks to the new largest exponent. */
template <int KEYS, int D>
__device__ __forceinline__ void addToSoftmax(Softmax& softmax, float p[KEYS / 8][4], float sums[D / 8][4]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float max = softmax.max[half];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            max = fmaxf(max, fmaxf(p[n][2 * half], p[n][2 * half + 1]));
        }
        max = quadMax(max);
        float from = max == -infinity() ? 0.f : max; // no key seen so far: exp2(-inf - 0) is the 0 it should be
        float shrink = powerOfTwo(softmax.max[half] - from);
        float sum = 0.f;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            p[n][2 * half] = powerOfTwo(p[n][2 * half] - from);
            p[n][2 * half + 1] = powerOfTwo(p[n][2 * half + 1] - from);
            sum += p[n][2 * half] + p[n][2 * half + 1];
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            sums[n][2 * half] *= shrink;
            sums[n][2 * half + 1] *= shrink;
        }
        softmax.sum[half] = softmax.sum[half] * shrink + sum;
        softmax.max[half] = max;
    }
}

__device__ __forceinline__ void storePair(bf16* to, float a, float b, bool first, bool second) {
    if (second && ((u64) to & 3) == 0) {
        *(u32*) to = packBf16(a, b);
    } else {
        if (first) {
            to[0] = toBf16(a);
        }
        if (second) {
            to[1] = toBf16(b);
        }
    }
}

/** Stores a warp's sums [16, COLUMNS], its rows times a factor each, from `to` on; `rows` and `columns` are left. */
template <int COLUMNS>
__device__ __forceinline__ void storeSums(
        bf16* to, i64 stride, int rows, int columns, const float sums[COLUMNS / 8][4], const float factor[2], Lane at) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = at.row + half * 8;
        if (row < rows) {
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++) {
                int column = n * 8 + at.column;
                storePair(to + row * stride + column, sums[n][2 * half] * factor[half],
                        sums[n][2 * half + 1] * factor[half], column < columns, column + 1 < columns);
            }
        }
    }
}
