// The choice of experts, forward and backward; a warp a row. Row launches, see common.cuh; of more than 32 threads a
// row the others end at once.
#include "common.cuh"

/** A column and its logit; NaN counts as the lowest. */
struct Candidate {
    float value;
    int column;

    /** Larger ones first, of equal ones the first. */
    __device__ __forceinline__ bool isBefore(Candidate other) const {
        return value > other.value || (value == other.value && column < other.column);
    }
};

/**
 * weights[rows, k] = the k largest probabilities of each row, largest first, divided by their sum if normalize;
 * chosen[rows * k] = their columns; logits[rows, experts] becomes its softmax.
 */
extern "C" __global__ void top_k_softmax(float* weights, int weightsStride, int* chosen, float* logits,
                                         int logitsStride, int rows, int experts, int k, int normalize) {
    int row = launchRow();
    if (row >= rows || threadIdx.x >= 32) {
        return;
    }
    int lane = threadIdx.x;
    weights += (i64) row * weightsStride;
    chosen += (i64) row * k;
    logits += (i64) row * logitsStride;

    Candidate last = {infinity(), -1};
    float max = 0.f;
    float chosenSum = 0.f;
    for (int j = 0; j < k; j++) {
        Candidate best = {-infinity(), experts};
        for (int e = lane; e < experts; e += 32) {
            Candidate candidate = {logits[e] == logits[e] ? logits[e] : -infinity(), e};
            if (last.isBefore(candidate) && candidate.isBefore(best)) {
                best = candidate;
            }
        }
        for (int distance = 16; distance > 0; distance /= 2) {
            Candidate other = {__shfl_xor_sync(ALL_LANES, best.value, distance),
                               __shfl_xor_sync(ALL_LANES, best.column, distance)};
            if (other.isBefore(best)) {
                best = other;
            }
        }
        last = best;
        max = j == 0 ? best.value : max;
        float exponential = expf(best.value - max);
        chosenSum += exponential;
        if (lane == 0) {
            chosen[j] = best.column;
            weights[j] = exponential;
        }
    }

    float sum = 0.f;
    for (int e = lane; e < experts; e += 32) {
        logits[e] = expf(logits[e] - max);
        sum += logits[e];
    }
    sum = warpSum(sum);
    for (int e = lane; e < experts; e += 32) {
        logits[e] /= sum;
    }
    if (lane == 0) {
        // NaN anywhere in the row is NaN in its sum
        float divisor = normalize && sum == sum ? chosenSum : sum;
        for (int j = 0; j < k; j++) {
            weights[j] /= divisor;
        }
    }
}

/**
 * dLogits[rows, experts] of the forward with its choice as a constant; dLogits may be probabilities. Normalized weights
 * are the softmax of the chosen logits alone.
 */
extern "C" __global__ void top_k_softmax_backward(float* dLogits, int dLogitsStride, const float* dWeights,
                                                  int dWeightsStride, const float* weights, int weightsStride,
                                                  const int* chosen, const float* probabilities,
                                                  int probabilitiesStride, int rows, int experts, int k,
                                                  int normalize) {
    int row = launchRow();
    if (row >= rows || threadIdx.x >= 32) {
        return;
    }
    int lane = threadIdx.x;
    dLogits += (i64) row * dLogitsStride;
    dWeights += (i64) row * dWeightsStride;
    weights += (i64) row * weightsStride;
    chosen += (i64) row * k;
    probabilities += (i64) row * probabilitiesStride;

    float mean = 0.f;
    for (int j = 0; j < k; j++) {
        mean += dWeights[j] * weights[j];
    }
    for (int e = lane; e < experts; e += 32) {
        dLogits[e] = normalize ? 0.f : -probabilities[e] * mean;
    }
    __syncwarp();
    for (int j = lane; j < k; j += 32) {
        dLogits[chosen[j]] += weights[j] * (normalize ? dWeights[j] - mean : dWeights[j]);
    }
}
