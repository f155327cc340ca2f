// Sums over rows, columns and whole matrices, in orders that depend on shape and launch only.
#include "common.cuh"

template <class T>
__device__ __forceinline__ void sumOfSquares(double* partials, const T* x, int xStride, int rows, int cols) {
    DYNAMIC_SHARED(double, shared);
    bool wide = isWide(x, xStride, rows);
    double sum = 0;
    for (Pieces at(cols); at.row < rows; at.next()) {
        float v[8];
        load8(v, x + (i64) at.row * xStride + at.col(), at.count(), wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            sum += (double) v[k] * v[k];
        }
    }
    sum = blockSum(sum, shared);
    if (threadIdx.x == 0) {
        partials[blockIdx.x] = sum;
    }
}

/**
 * partials[grid] = each block's share of the sum of x^2, x[rows, cols].
 * Block 256, grid: always the same for a shape, at most 1024, shared memory 264 bytes. Then sum_partials.
 */
extern "C" __global__ void sum_of_squares_bf16(double* partials, const bf16* x, int xStride, int rows, int cols) {
    sumOfSquares(partials, x, xStride, rows, cols);
}

extern "C" __global__ void sum_of_squares_f32(double* partials, const float* x, int xStride, int rows, int cols) {
    sumOfSquares(partials, x, xStride, rows, cols);
}

/** out[0] = sum of partials[n]. Block 256, grid 1, shared memory 264 bytes. */
extern "C" __global__ void sum_partials(double* out, const double* partials, int n) {
    DYNAMIC_SHARED(double, shared);
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += 256) {
        sum += partials[i];
    }
    sum = blockSum(sum, shared);
    if (threadIdx.x == 0) {
        out[0] = sum;
    }
}

/** out[i] = sum over j of a[i, j] * b[i, j]; out[rows], a and b [rows, cols]. Row launch. */
extern "C" __global__ void row_dots(float* out, const bf16* a, int aStride, const bf16* b, int bStride, int rows,
                                    int cols) {
    DYNAMIC_SHARED(float, shared);
    int row = launchRow();
    if (row >= rows) {
        return;
    }
    a += (i64) row * aStride;
    b += (i64) row * bStride;
    bool wideA = isWide(a, 0, 1);
    bool wideB = isWide(b, 0, 1);
    float sum = 0.f;
    for (int col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
        float v[8];
        float w[8];
        load8(v, a + col, cols - col, wideA);
        load8(w, b + col, cols - col, wideB);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            sum += v[k] * w[k];
        }
    }
    sum = rowSum(sum, shared);
    if (threadIdx.x == 0) {
        out[row] = sum;
    }
}

template <class T>
__device__ __forceinline__ void inverseRowNorms(float* out, const T* w, int wStride, int rows, int cols) {
    DYNAMIC_SHARED(float, shared);
    int row = launchRow();
    if (row >= rows) {
        return;
    }
    w += (i64) row * wStride;
    bool wide = isWide(w, 0, 1);
    float sum = 0.f;
    for (int col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
        float v[8];
        load8(v, w + col, cols - col, wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            sum += v[k] * v[k];
        }
    }
    sum = rowSum(sum, shared);
    if (threadIdx.x == 0) {
        out[row] = sum == 0.f ? 0.f : 1.f / sqrtf(sum);
    }
}

/** out[i] = 1 / length of w[i], 0 for a row of zeros; out[rows], w[rows, cols]. Row launch. */
extern "C" __global__ void inverse_row_norms_bf16(float* out, const bf16* w, int wStride, int rows, int cols) {
    inverseRowNorms(out, w, wStride, rows, cols);
}

extern "C" __global__ void inverse_row_norms_f32(float* out, const float* w, int wStride, int rows, int cols) {
    inverseRowNorms(out, w, wStride, rows, cols);
}

/**
 * out[j] += sum over i of a[i, j] * b[i, j]; out[cols], a and b [rows, cols]. A block takes 64 columns: eight threads
 * of eight columns each, 32 rows at a time, whose sums are then added in order.
 * Block (8, 32), grid ceil(cols / 64), shared memory 8192 bytes.
 */
extern "C" __global__ void column_dots(float* out, const bf16* a, int aStride, const bf16* b, int bStride, int rows,
                                       int cols) {
    DYNAMIC_SHARED(float, sums);
    int col = (blockIdx.x * 8 + threadIdx.x) * 8;
    bool wideA = isWide(a, aStride, rows);
    bool wideB = isWide(b, bStride, rows);
    float sum[8] = {};
    for (int row = threadIdx.y; row < rows; row += 32) {
        float v[8];
        float w[8];
        load8(v, a + (i64) row * aStride + col, cols - col, wideA);
        load8(w, b + (i64) row * bStride + col, cols - col, wideB);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            sum[k] += v[k] * w[k];
        }
    }
#pragma unroll
    for (int k = 0; k < 8; k++) {
        sums[threadIdx.y * 64 + threadIdx.x * 8 + k] = sum[k];
    }
    __syncthreads();
    int thread = threadIdx.y * 8 + threadIdx.x;
    int mine = blockIdx.x * 64 + thread;
    if (thread < 64 && mine < cols) {
        float total = out[mine];
        for (int i = 0; i < 32; i++) {
            total += sums[i * 64 + thread];
        }
        out[mine] = total;
    }
}
