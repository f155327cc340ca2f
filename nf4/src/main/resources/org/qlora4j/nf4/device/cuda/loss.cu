// Cross entropy of logits and, in place, its gradient.
#include "common.cuh"

/**
 * losses[i] = log sum e^logits - target * logits with target = (1 - smoothing) onehot(labels[i]) + smoothing / cols;
 * correct[i] = 1 if no logit is above the label's, else 0; logits[rows, cols] becomes gradientScale (softmax - target)
 * unless gradientScale is 0. A block a row: one pass for maximum and sum together, one for the gradient.
 * Block 1024, grid rows, shared memory ROW_SHARED bytes.
 */
extern "C" __global__ void __launch_bounds__(1024)
        cross_entropy(float* losses, float* correct, bf16* logits, int logitsStride, const int* labels, int cols,
                      float gradientScale, float smoothing) {
    DYNAMIC_SHARED(float, shared);
    int row = blockIdx.x;
    int label = labels[row];
    logits += (i64) row * logitsStride;
    // read before the gradient takes its place
    float target = toFloat(logits[label]);
    bool wide = isWide(logits, 0, 1);

    float max = -infinity();
    float sum = 0.f;
    float plainSum = 0.f;
    for (int col = threadIdx.x * 8; col < cols; col += 1024 * 8) {
        float v[8];
        load8(v, logits + col, cols - col, wide);
        float newMax = max;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (col + k < cols) {
                newMax = fmaxf(newMax, v[k]);
                plainSum += v[k];
            }
        }
        if (newMax > -infinity()) {
            sum *= expf(max - newMax);
            max = newMax;
        }
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (col + k < cols) {
                sum += expf(v[k] - max);
            }
        }
    }
    float rowMax = blockMax(max, shared);
    sum = blockSum(max > -infinity() ? sum * expf(max - rowMax) : sum, shared);
    float mean = smoothing == 0.f ? rowMax : blockSum(plainSum, shared) / cols;
    if (threadIdx.x == 0) {
        losses[row] = logf(sum) + (1.f - smoothing) * (rowMax - target) + smoothing * (rowMax - mean);
        // a row with NaN has a sum of NaN and nothing correct
        correct[row] = target >= rowMax && sum == sum ? 1.f : 0.f;
    }
    if (gradientScale == 0.f) {
        return;
    }
    float inverse = 1.f / sum;
    float elsewhere = smoothing / cols;
    for (int col = threadIdx.x * 8; col < cols; col += 1024 * 8) {
        float v[8];
        load8(v, logits + col, cols - col, wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            float wanted = (col + k == label ? 1.f - smoothing : 0.f) + elsewhere;
            v[k] = gradientScale * (expf(v[k] - rowMax) * inverse - wanted);
        }
        store8(logits + col, v, cols - col, wide);
    }
}
