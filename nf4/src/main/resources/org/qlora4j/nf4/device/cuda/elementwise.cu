// Sums, scales and dropout, all [rows, cols]. Elementwise launches, see common.cuh. Names end in the types of the
// result and of the operand, or in the one type of both.
#include "common.cuh"

template <class Y, class X>
__device__ __forceinline__ void add(Y* y, int yStride, const X* x, int xStride, int rows, int cols, float alpha) {
    bool wideY = isWide(y, yStride, rows);
    bool wideX = isWide(x, xStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        Y* out = y + (i64) at.row * yStride + at.col();
        float v[8];
        float w[8];
        load8(v, out, at.count(), wideY);
        load8(w, x + (i64) at.row * xStride + at.col(), at.count(), wideX);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] += alpha * w[k];
        }
        store8(out, v, at.count(), wideY);
    }
}

/** y += alpha * x. */
#define ADD(name, Y, X)                                                                                            \
    extern "C" __global__ void name(Y* y, int yStride, const X* x, int xStride, int rows, int cols, float alpha) { \
        add(y, yStride, x, xStride, rows, cols, alpha);                                                            \
    }
ADD(add_bf16_bf16, bf16, bf16)
ADD(add_bf16_f32, bf16, float)
ADD(add_f32_bf16, float, bf16)
ADD(add_f32_f32, float, float)

template <class T>
__device__ __forceinline__ void addBias(T* y, int yStride, const float* bias, int rows, int cols) {
    bool wide = isWide(y, yStride, rows);
    bool wideBias = isWide(bias, 0, 1);
    for (Pieces at(cols); at.row < rows; at.next()) {
        T* out = y + (i64) at.row * yStride + at.col();
        float v[8];
        float b[8];
        load8(v, out, at.count(), wide);
        load8(b, bias + at.col(), at.count(), wideBias);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] += b[k];
        }
        store8(out, v, at.count(), wide);
    }
}

/** y[i] += bias[cols]. */
extern "C" __global__ void add_bias_bf16(bf16* y, int yStride, const float* bias, int rows, int cols) {
    addBias(y, yStride, bias, rows, cols);
}

extern "C" __global__ void add_bias_f32(float* y, int yStride, const float* bias, int rows, int cols) {
    addBias(y, yStride, bias, rows, cols);
}

template <class T>
__device__ __forceinline__ void scaleColumns(T* y, int yStride, const T* x, int xStride, const float* scale, int rows,
                                             int cols, float beta) {
    bool wideY = isWide(y, yStride, rows);
    bool wideX = isWide(x, xStride, rows);
    bool wideScale = isWide(scale, 0, 1);
    for (Pieces at(cols); at.row < rows; at.next()) {
        T* out = y + (i64) at.row * yStride + at.col();
        float v[8];
        float s[8];
        float old[8] = {};
        load8(v, x + (i64) at.row * xStride + at.col(), at.count(), wideX);
        load8(s, scale + at.col(), at.count(), wideScale);
        if (beta != 0.f) {
            load8(old, out, at.count(), wideY);
        }
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] = beta * old[k] + v[k] * s[k];
        }
        store8(out, v, at.count(), wideY);
    }
}

/** y[i] = beta * y[i] + x[i] * scale[cols]; y may be x, and is not read if beta is 0. */
extern "C" __global__ void scale_columns_bf16(bf16* y, int yStride, const bf16* x, int xStride, const float* scale,
                                              int rows, int cols, float beta) {
    scaleColumns(y, yStride, x, xStride, scale, rows, cols, beta);
}

extern "C" __global__ void scale_columns_f32(float* y, int yStride, const float* x, int xStride, const float* scale,
                                             int rows, int cols, float beta) {
    scaleColumns(y, yStride, x, xStride, scale, rows, cols, beta);
}

/** y[i] = scale[i] * x[i]; y may be x. */
extern "C" __global__ void scale_rows(bf16* y, int yStride, const bf16* x, int xStride, const float* scale, int rows,
                                      int cols) {
    bool wide = isWide(y, yStride, rows) && isWide(x, xStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        float s = scale[at.row];
        float v[8];
        load8(v, x + (i64) at.row * xStride + at.col(), at.count(), wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] *= s;
        }
        store8(y + (i64) at.row * yStride + at.col(), v, at.count(), wide);
    }
}

template <class T> __device__ __forceinline__ void fill(T* y, int yStride, int rows, int cols, float value) {
    bool wide = isWide(y, yStride, rows);
    float v[8] = {value, value, value, value, value, value, value, value};
    for (Pieces at(cols); at.row < rows; at.next()) {
        store8(y + (i64) at.row * yStride + at.col(), v, at.count(), wide);
    }
}

/** y = value. */
extern "C" __global__ void fill_bf16(bf16* y, int yStride, int rows, int cols, float value) {
    fill(y, yStride, rows, cols, value);
}

extern "C" __global__ void fill_f32(float* y, int yStride, int rows, int cols, float value) {
    fill(y, yStride, rows, cols, value);
}

/** Dropout.keeps of Java: SplitMix64's finalizer of seed + golden * (index + 1), its top 24 bits. */
__device__ __forceinline__ bool keeps(u64 seed, u64 index, u32 threshold) {
    u64 z = seed + (index + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (u32) ((z ^ z >> 31) >> 40) >= threshold;
}

template <class T>
__device__ __forceinline__ void dropout(T* y, int yStride, const T* x, int xStride, int rows, int cols, i64 seed,
                                        int threshold, float scale) {
    bool wideY = isWide(y, yStride, rows);
    bool wideX = isWide(x, xStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        i64 index = (i64) at.row * cols + at.col();
        float v[8];
        load8(v, x + (i64) at.row * xStride + at.col(), at.count(), wideX);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] = keeps((u64) seed, (u64) index + k, (u32) threshold) ? v[k] * scale : 0.f;
        }
        store8(y + (i64) at.row * yStride + at.col(), v, at.count(), wideY);
    }
}

/** y = x * scale where (seed, row * cols + col) keeps the element, else 0; scale is 1 / (1 - p). y may be x. */
extern "C" __global__ void dropout_bf16(bf16* y, int yStride, const bf16* x, int xStride, int rows, int cols, i64 seed,
                                        int threshold, float scale) {
    dropout(y, yStride, x, xStride, rows, cols, seed, threshold, scale);
}

extern "C" __global__ void dropout_f32(float* y, int yStride, const float* x, int xStride, int rows, int cols,
                                       i64 seed, int threshold, float scale) {
    dropout(y, yStride, x, xStride, rows, cols, seed, threshold, scale);
}
