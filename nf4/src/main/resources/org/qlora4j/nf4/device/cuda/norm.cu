// Root mean square norm of rows, forward and backward. Row launches, see common.cuh.
#include "common.cuh"

/**
 * y[rows, cols] = bf16(bf16(x * rstd) * weight), rstd[rows] = 1 / sqrt(mean(x^2) + eps), rounded where Hugging Face's
 * LlamaRMSNorm rounds. y may be x.
 */
extern "C" __global__ void rms_norm(bf16* y, int yStride, float* rstd, const bf16* x, int xStride, const float* weight,
                                    int rows, int cols, float eps) {
    DYNAMIC_SHARED(float, shared);
    int row = launchRow();
    if (row >= rows) {
        return;
    }
    x += (i64) row * xStride;
    y += (i64) row * yStride;
    bool wide = isWide(x, 0, 1);
    float sum = 0.f;
    for (int col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
        float v[8];
        load8(v, x + col, cols - col, wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            sum += v[k] * v[k];
        }
    }
    float r = 1.f / sqrtf(rowSum(sum, shared) / cols + eps);
    if (threadIdx.x == 0) {
        rstd[row] = r;
    }
    bool wideY = isWide(y, 0, 1);
    bool wideWeight = isWide(weight, 0, 1);
    for (int col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
        float v[8];
        float w[8];
        load8(v, x + col, cols - col, wide);
        load8(w, weight + col, cols - col, wideWeight);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] = roundBf16(v[k] * r) * w[k];
        }
        store8(y + col, v, cols - col, wideY);
    }
}

/**
 * dx[rows, cols] = beta * dx + rstd * (g - n * mean(g * n)) with g = dy * weight, n = x * rstd. dx is not read if beta
 * is 0.
 */
extern "C" __global__ void rms_norm_backward(bf16* dx, int dxStride, const bf16* dy, int dyStride, const bf16* x,
                                             int xStride, const float* rstd, const float* weight, int rows, int cols,
                                             float beta) {
    DYNAMIC_SHARED(float, shared);
    int row = launchRow();
    if (row >= rows) {
        return;
    }
    dx += (i64) row * dxStride;
    dy += (i64) row * dyStride;
    x += (i64) row * xStride;
    bool wideDy = isWide(dy, 0, 1);
    bool wideX = isWide(x, 0, 1);
    bool wideWeight = isWide(weight, 0, 1);
    float r = rstd[row];
    float sum = 0.f;
    for (int col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
        float g[8];
        float w[8];
        float n[8];
        load8(g, dy + col, cols - col, wideDy);
        load8(w, weight + col, cols - col, wideWeight);
        load8(n, x + col, cols - col, wideX);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            sum += g[k] * w[k] * (n[k] * r);
        }
    }
    float mean = rowSum(sum, shared) / cols;
    bool wideDx = isWide(dx, 0, 1);
    for (int col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
        float g[8];
        float w[8];
        float n[8];
        load8(g, dy + col, cols - col, wideDy);
        load8(w, weight + col, cols - col, wideWeight);
        load8(n, x + col, cols - col, wideX);
        float old[8] = {};
        if (beta != 0.f) {
            load8(old, dx + col, cols - col, wideDx);
        }
#pragma unroll
        for (int k = 0; k < 8; k++) {
            old[k] = beta * old[k] + r * (g[k] * w[k] - n[k] * r * mean);
        }
        store8(dx + col, old, cols - col, wideDx);
    }
}
