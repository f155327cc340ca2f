// Attention for head sizes that the tiles of attention.cu are too small for, up to 512: one warp a row, all in fp32,
// no shared memory. Slow, and exact. A lane has every 32nd element of a row.
#include "attention.cuh"

#define LANE_ELEMENTS 16

/** A lane's elements of a row of a head; 0 behind the head's last. */
__device__ __forceinline__ void loadLane(float elements[LANE_ELEMENTS], Rows from, int row, int lane) {
#pragma unroll
    for (int e = 0; e < LANE_ELEMENTS; e++) {
        const int column = lane + 32 * e;
        elements[e] = column < from.columns ? toFloat(from.first[row * from.stride + column]) : 0.f;
    }
}

__device__ __forceinline__ void storeLane(
        bf16* head, i64 stride, int row, int columns, int lane, const float elements[LANE_ELEMENTS], float factor) {
#pragma unroll
    for (int e = 0; e < LANE_ELEMENTS; e++) {
        const int column = lane + 32 * e;
        if (column < columns) {
            head[row * stride + column] = toBf16(elements[e] * factor);
        }
    }
}

__device__ __forceinline__ float dot(const float a[LANE_ELEMENTS], const float b[LANE_ELEMENTS]) {
    float sum = 0.f;
#pragma unroll
    for (int e = 0; e < LANE_ELEMENTS; e++) {
        sum += a[e] * b[e];
    }
    return warpSum(sum);
}

/** sums = sums * shrink + factor * row */
__device__ __forceinline__ void addRow(
        float sums[LANE_ELEMENTS], float shrink, float factor, const float row[LANE_ELEMENTS]) {
#pragma unroll
    for (int e = 0; e < LANE_ELEMENTS; e++) {
        sums[e] = sums[e] * shrink + factor * row[e];
    }
}

/** A warp for each query and head. Grid: (queries + sequences over 4, rounded up; heads). */
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)
        attention_forward_512(bf16* out, int outStride, float* lse, int lseStride, ATTENTION_PARAMETERS) {
    const Attention it = ATTENTION_ARGUMENT;
    const int lane = threadIdx.x % 32, head = blockIdx.y, tile = blockIdx.x * 4 + threadIdx.x / 32;
    const int s = sequenceOfTile(tile, 1, queryOffsets, sequences), row = firstRowOfTile(tile, 1, queryOffsets, s);
    const Sequence sequence = sequenceAt(s, queryOffsets, keyOffsets);
    if (row >= sequence.queries) {
        return;
    }
    const Rows rowsK = rowsOf(it.k, it.kStride, sequence.firstKey, head / group, headDim);
    const Rows rowsV = rowsOf(it.v, it.vStride, sequence.firstKey, head / group, headDim);
    const Score score = scoreOf(scale, softcap);
    float qRow[LANE_ELEMENTS], other[LANE_ELEMENTS], sums[LANE_ELEMENTS] = {};
    loadLane(qRow, rowsOf(it.q, it.qStride, sequence.firstQuery, head, headDim), row, lane);
    float largest = -infinity(), sum = 0.f;
    const int position = sequence.past + row;
    for (int key = max(0, position - window + 1); key <= position; key++) {
        loadLane(other, rowsK, key, lane);
        const float exponent = exponentOf(score, dot(qRow, other));
        const float newLargest = fmaxf(largest, exponent);
        const float shrink = powerOfTwo(largest - newLargest), p = powerOfTwo(exponent - newLargest);
        loadLane(other, rowsV, key, lane);
        addRow(sums, shrink, p, other);
        sum = sum * shrink + p;
        largest = newLargest;
    }
    const int outRow = sequence.firstQuery + row;
    storeLane(out + (i64) head * headDim, outStride, outRow, headDim, lane, sums, 1.f / sum);
    if (lane == 0) {
        lse[(i64) head * lseStride + outRow] = largest * LN2 + logf(sum);
    }
}

/** What a query and a key add to gradients: p for dv, ds (without scale) for dq and dk. */
struct Pair {
    float p, ds;
};

__device__ __forceinline__ Pair pairOf(Score score, float qk, float dOutV, float lse, float delta) {
    Pair it;
    const float exponent = exponentOf(score, qk);
    it.p = powerOfTwo(exponent - lse * LOG2E);
    it.ds = it.p * (dOutV - delta) * capGradient(score, exponent);
    return it;
}

/** dQ: a warp for each query and head. Grid: (queries + sequences over 4, rounded up; heads). */
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)
        attention_backward_queries_512(bf16* dq, int dqStride, UPSTREAM_PARAMETERS, ATTENTION_PARAMETERS) {
    const Attention it = ATTENTION_ARGUMENT;
    const int lane = threadIdx.x % 32, head = blockIdx.y, tile = blockIdx.x * 4 + threadIdx.x / 32;
    const int s = sequenceOfTile(tile, 1, queryOffsets, sequences), row = firstRowOfTile(tile, 1, queryOffsets, s);
    const Sequence sequence = sequenceAt(s, queryOffsets, keyOffsets);
    if (row >= sequence.queries) {
        return;
    }
    const Rows rowsK = rowsOf(it.k, it.kStride, sequence.firstKey, head / group, headDim);
    const Rows rowsV = rowsOf(it.v, it.vStride, sequence.firstKey, head / group, headDim);
    const Score score = scoreOf(scale, softcap);
    float qRow[LANE_ELEMENTS], dOutRow[LANE_ELEMENTS], kRow[LANE_ELEMENTS], vRow[LANE_ELEMENTS];
    float sums[LANE_ELEMENTS] = {};
    loadLane(qRow, rowsOf(it.q, it.qStride, sequence.firstQuery, head, headDim), row, lane);
    loadLane(dOutRow, rowsOf(dOut, dOutStride, sequence.firstQuery, head, headDim), row, lane);
    const int outRow = sequence.firstQuery + row, position = sequence.past + row;
    const float rowLse = lse[(i64) head * lseStride + outRow], rowDelta = delta[(i64) head * deltaStride + outRow];
    for (int key = max(0, position - window + 1); key <= position; key++) {
        loadLane(kRow, rowsK, key, lane);
        loadLane(vRow, rowsV, key, lane);
        const Pair pair = pairOf(score, dot(qRow, kRow), dot(dOutRow, vRow), rowLse, rowDelta);
        addRow(sums, 1.f, pair.ds, kRow);
    }
    storeLane(dq + (i64) head * headDim, dqStride, outRow, headDim, lane, sums, scale);
}

/** dK, dV: a warp for each key and key head. Grid: (keys + sequences over 4, rounded up; key heads). */
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 2) attention_backward_keys_512(
        bf16* dk, int dkStride, bf16* dv, int dvStride, UPSTREAM_PARAMETERS, ATTENTION_PARAMETERS) {
    const Attention it = ATTENTION_ARGUMENT;
    const int lane = threadIdx.x % 32, kvHead = blockIdx.y, tile = blockIdx.x * 4 + threadIdx.x / 32;
    const int s = sequenceOfTile(tile, 1, keyOffsets, sequences), key = firstRowOfTile(tile, 1, keyOffsets, s);
    const Sequence sequence = sequenceAt(s, queryOffsets, keyOffsets);
    if (key >= sequence.keys) {
        return;
    }
    const Score score = scoreOf(scale, softcap);
    float qRow[LANE_ELEMENTS], dOutRow[LANE_ELEMENTS], kRow[LANE_ELEMENTS], vRow[LANE_ELEMENTS];
    float sumsK[LANE_ELEMENTS] = {}, sumsV[LANE_ELEMENTS] = {};
    loadLane(kRow, rowsOf(it.k, it.kStride, sequence.firstKey, kvHead, headDim), key, lane);
    loadLane(vRow, rowsOf(it.v, it.vStride, sequence.firstKey, kvHead, headDim), key, lane);
    for (int head = kvHead * group; head < (kvHead + 1) * group; head++) {
        const Rows rowsQ = rowsOf(it.q, it.qStride, sequence.firstQuery, head, headDim);
        const Rows rowsD = rowsOf(dOut, dOutStride, sequence.firstQuery, head, headDim);
        const int endRow = min(sequence.queries, key + window - sequence.past);
        for (int row = max(0, key - sequence.past); row < endRow; row++) {
            loadLane(qRow, rowsQ, row, lane);
            loadLane(dOutRow, rowsD, row, lane);
            const i64 outRow = sequence.firstQuery + row;
            const Pair pair = pairOf(score, dot(qRow, kRow), dot(dOutRow, vRow),
                    lse[(i64) head * lseStride + outRow], delta[(i64) head * deltaStride + outRow]);
            addRow(sumsK, 1.f, pair.ds, qRow);
            addRow(sumsV, 1.f, pair.p, dOutRow);
        }
    }
    storeLane(dk + (i64) kvHead * headDim, dkStride, sequence.firstKey + key, headDim, lane, sumsK, scale);
    storeLane(dv + (i64) kvHead * headDim, dvStride, sequence.firstKey + key, headDim, lane, sumsV, 1.f);
}
