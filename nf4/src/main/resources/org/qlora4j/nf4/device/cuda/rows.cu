// Whole rows: copies, casts, gathering, scattering, and the gradient of an embedding. Elementwise launches unless they
// say otherwise, see common.cuh.
#include "common.cuh"

/** Copies up to eight elements bit by bit. */
template <class T> __device__ __forceinline__ void copy8(T* y, const T* x, int n, bool wide) {
    if (wide && n == 8) {
#pragma unroll
        for (int i = 0; i < (int) sizeof(T) / 2; i++) {
            ((uint4*) y)[i] = ((const uint4*) x)[i];
        }
    } else {
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (k < n) {
                y[k] = x[k];
            }
        }
    }
}

template <class T>
__device__ __forceinline__ void copyRows(T* y, int yStride, const T* x, int xStride, const int* index, int rows,
                                         int cols) {
    // the rows of x are not known; one row counts as many
    bool wide = isWide(y, yStride, rows) && isWide(x, xStride, index == nullptr ? rows : 2);
    for (Pieces at(cols); at.row < rows; at.next()) {
        int from = index == nullptr ? at.row : index[at.row];
        copy8(y + (i64) at.row * yStride + at.col(), x + (i64) from * xStride + at.col(), at.count(), wide);
    }
}

/** y[i] = x[index[i]], or x[i] if index is null; y[rows, cols], elements of 16 or 32 bits. */
extern "C" __global__ void copy_rows_16(bf16* y, int yStride, const bf16* x, int xStride, const int* index, int rows,
                                        int cols) {
    copyRows(y, yStride, x, xStride, index, rows, cols);
}

extern "C" __global__ void copy_rows_32(u32* y, int yStride, const u32* x, int xStride, const int* index, int rows,
                                        int cols) {
    copyRows(y, yStride, x, xStride, index, rows, cols);
}

template <class Y, class X>
__device__ __forceinline__ void castRows(Y* y, int yStride, const X* x, int xStride, const int* index, int rows,
                                         int cols) {
    bool wideY = isWide(y, yStride, rows);
    bool wideX = isWide(x, xStride, index == nullptr ? rows : 2);
    for (Pieces at(cols); at.row < rows; at.next()) {
        int from = index == nullptr ? at.row : index[at.row];
        float v[8];
        load8(v, x + (i64) from * xStride + at.col(), at.count(), wideX);
        store8(y + (i64) at.row * yStride + at.col(), v, at.count(), wideY);
    }
}

/** The same from one type to another: cast_rows_<y>_<x>. */
#define CAST_ROWS(name, Y, X)                                                                                        \
    extern "C" __global__ void name(Y* y, int yStride, const X* x, int xStride, const int* index, int rows,          \
                                    int cols) {                                                                      \
        castRows(y, yStride, x, xStride, index, rows, cols);                                                         \
    }
CAST_ROWS(cast_rows_bf16_f32, bf16, float)
CAST_ROWS(cast_rows_bf16_f16, bf16, f16)
CAST_ROWS(cast_rows_f16_f32, f16, float)
CAST_ROWS(cast_rows_f16_bf16, f16, bf16)
CAST_ROWS(cast_rows_f32_bf16, float, bf16)
CAST_ROWS(cast_rows_f32_f16, float, f16)

template <class T>
__device__ __forceinline__ void scatterRows(T* y, int yStride, const T* x, int xStride, const int* index, int rows,
                                            int cols) {
    bool wide = isWide(y, yStride, 2) && isWide(x, xStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        copy8(y + (i64) index[at.row] * yStride + at.col(), x + (i64) at.row * xStride + at.col(), at.count(), wide);
    }
}

/** y[index[i]] = x[i]; x[rows, cols], no index twice. The other rows of y stay: fill them first. */
extern "C" __global__ void scatter_rows_16(bf16* y, int yStride, const bf16* x, int xStride, const int* index,
                                           int rows, int cols) {
    scatterRows(y, yStride, x, xStride, index, rows, cols);
}

extern "C" __global__ void scatter_rows_32(u32* y, int yStride, const u32* x, int xStride, const int* index, int rows,
                                           int cols) {
    scatterRows(y, yStride, x, xStride, index, rows, cols);
}

/**
 * A block owns row ids[i] of the table if i is its first place in ids, and adds all its gradients in order of their
 * places: fp32, rounded once, no atomics. A warp's ballot finds 32 places at a time.
 */
template <class T>
__device__ __forceinline__ void embeddingBackward(T* dTable, int dTableStride, const int* ids, const bf16* dOut,
                                                  int dOutStride, int rows, int cols) {
    DYNAMIC_SHARED(u32, masks);
    int i = blockIdx.x;
    int id = ids[i];
    int col = (blockIdx.y * 256 + threadIdx.x) * 8;
    int n = cols - col;
    T* sums = dTable + (i64) id * dTableStride + col;
    bool wide = isWide(dOut, dOutStride, rows);
    bool wideTable = isWide(dTable, dTableStride, 2);
    float sum[8] = {};
    for (int first = 0; first < rows; first += 256) {
        int place = first + threadIdx.x;
        u32 mask = ballot(place < rows && ids[place] == id);
        // the last masks may still be read
        __syncthreads();
        if (threadIdx.x % 32 == 0) {
            masks[threadIdx.x / 32] = mask;
        }
        __syncthreads();
        for (int warp = 0; warp < 8; warp++) {
            for (u32 left = masks[warp]; left != 0; left &= left - 1) {
                int found = first + warp * 32 + lowestBit(left);
                if (found < i) {
                    // another block's; all threads see the same masks and end here
                    return;
                }
                if (found == i) {
                    load8(sum, sums, n, wideTable);
                }
                float d[8];
                load8(d, dOut + (i64) found * dOutStride + col, n, wide);
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    sum[k] += d[k];
                }
            }
        }
    }
    store8(sums, sum, n, wideTable);
}

/**
 * dTable[ids[i]] += dOut[i] in order of i; dOut[rows, cols].
 * Block 256, grid (rows, ceil(cols / 2048)), shared memory 32 bytes.
 */
extern "C" __global__ void embedding_backward_f32(float* dTable, int dTableStride, const int* ids, const bf16* dOut,
                                                  int dOutStride, int rows, int cols) {
    embeddingBackward(dTable, dTableStride, ids, dOut, dOutStride, rows, cols);
}

extern "C" __global__ void embedding_backward_bf16(bf16* dTable, int dTableStride, const int* ids, const bf16* dOut,
                                                   int dOutStride, int rows, int cols) {
    embeddingBackward(dTable, dTableStride, ids, dOut, dOutStride, rows, cols);
}
