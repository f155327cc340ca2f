// Quantizing, dequantizing and the fused product.
#include <cmath>
#include <vector>

#include "bf16.h"
#include "bitsandbytes.h"

namespace bnb {
namespace {

enum DataType { GENERAL_8BIT = 0, FP4 = 1, NF4 = 2 };

const float NF4_VALUES[16] = {
        -1.0f,
        -0.6961928009986877f,
        -0.5250730514526367f,
        -0.39491748809814453f,
        -0.28444138169288635f,
        -0.18477343022823334f,
        -0.09105003625154495f,
        0.0f,
        0.07958029955625534f,
        0.16093020141124725f,
        0.24611230194568634f,
        0.33791524171829224f,
        0.44070982933044434f,
        0.5626170039176941f,
        0.7229568362236023f,
        1.0f,
};

/** Magnitudes by the lower three bits of a code. */
const float FP4_VALUES[8] = {0.f, 0.005208333333f, 0.66666667f, 1.f, 0.33333333f, 0.5f, 0.16666667f, 0.25f};

float decode4(int type, int code) {
    if (type == NF4) {
        return NF4_VALUES[code];
    }
    return code & 8 ? -FP4_VALUES[code & 7] : FP4_VALUES[code & 7];
}

/** The last threshold below v; NaN is above none. */
template <size_t N> int rank(const float (&thresholds)[N], float v) {
    int rank = 0;
    while (rank < (int) N && v > thresholds[rank]) {
        rank++;
    }
    return rank;
}

int encode4(int type, float v) {
    if (type == NF4) {
        float thresholds[15];
        for (int i = 0; i < 15; i++) {
            thresholds[i] = (NF4_VALUES[i] + NF4_VALUES[i + 1]) * 0.5f;
        }
        return rank(thresholds, v);
    }
    // not quite the midpoints: the kernel has them with six or seven digits
    const float thresholds[7] = {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f, 0.8333333f};
    const int ascending[8] = {0, 1, 6, 7, 4, 5, 2, 3};
    return ascending[rank(thresholds, fabsf(v))] | (v < 0 ? 8 : 0);
}

template <class T> Work quantize(int type, int blockSize, Arguments a) {
    float* map = a;
    T* x = a;
    float* absmax = a;
    uint8_t* out = a;
    [[maybe_unused]] float* random = a;
    [[maybe_unused]] int offset = a;
    int n = a;
    return [=] {
        for (int first = 0; first < n; first += blockSize) {
            int count = n - first < blockSize ? n - first : blockSize;
            float largest = 0;
            for (int i = 0; i < count; i++) {
                largest = fmaxf(largest, fabsf(load(x[first + i])));
            }
            absmax[first / blockSize] = largest;
            float reciprocal = 1.f / largest;
            for (int i = first; i < first + count; i += type == GENERAL_8BIT ? 1 : 2) {
                float v = load(x[i]) * reciprocal;
                if (type == GENERAL_8BIT) {
                    out[i] = (uint8_t) encode8(map, v);
                } else {
                    // the partner that is not there is a zero; times infinity in a block of zeros
                    float next = (i + 1 < first + count ? load(x[i + 1]) : 0.f) * reciprocal;
                    out[i / 2] = (uint8_t) (encode4(type, v) << 4 | encode4(type, next));
                }
            }
        }
    };
}

/** The real kernel loads the scale of every element of its last tile, which may lie behind n. */
template <class T> Work dequantize(int type, Arguments a) {
    float* map = a;
    uint8_t* codes = a;
    float* absmax = a;
    T* out = a;
    // bytes of codes
    int blockBytes = a;
    int n = a;
    return [=] {
        int blockSize = type == GENERAL_8BIT ? blockBytes : 2 * blockBytes;
        int tile = type == GENERAL_8BIT ? 512 : 1024;
        volatile float overRead = absmax[((n + tile - 1) / tile * tile - 1) / blockSize];
        (void) overRead;
        for (int i = 0; i < n; i++) {
            float scale = absmax[i / blockSize];
            float value = type == GENERAL_8BIT ? map[codes[i]] : decode4(type, i & 1 ? codes[i / 2] & 15 : codes[i / 2] >> 4);
            store(out + i, value * scale);
        }
    };
}

template <class T> Work gemm4Bit(Arguments a) {
    const T* x = a;
    const uint8_t* packed = a;
    const float* absmax = a;
    const uint8_t* absmaxCodes = a;
    const float* map = a;
    const float* offset = a;
    T* out = a;
    const T* bias = a;
    int m = a, n = a, k = a, blockSize = a, type = a;
    return [=] {
        std::vector<float> row(k);
        for (int j = 0; j < n; j++) {
            for (int i = 0; i < k; i++) {
                int64_t at = (int64_t) j * k + i;
                int64_t block = at / blockSize;
                float scale = absmaxCodes == nullptr
                        ? absmax[block]
                        : fmaf(map[absmaxCodes[block]], absmax[block / 256], *offset);
                row[i] = decode4(type, at & 1 ? packed[at / 2] & 15 : packed[at / 2] >> 4) * scale;
            }
            for (int r = 0; r < m; r++) {
                float sum = bias == nullptr ? 0.f : load(bias[j]);
                for (int i = 0; i < k; i++) {
                    sum += load(x[(int64_t) r * k + i]) * row[i];
                }
                store(out + (int64_t) r * n + j, sum);
            }
        }
    };
}

}  // namespace

int encode8(const float* map, float v) {
    int pivot = 127, upper = 255, lower = 0;
    for (int step = 64; step > 0; step >>= 1) {
        if (v > map[pivot]) {
            lower = pivot;
            pivot += step;
        } else {
            upper = pivot;
            pivot -= step;
        }
    }
    if (v > map[pivot]) {
        return v > (map[upper] + map[pivot]) * 0.5f ? upper : pivot;
    }
    return v < (map[lower] + map[pivot]) * 0.5f ? lower : pivot;
}

Work blockKernel(const std::string& kernel, Arguments a) {
    std::string function = kernel.substr(0, kernel.find('<'));
    bool fp32 = kernel.find("<float,") != std::string::npos;
    bool bf16 = kernel.find("<__nv_bfloat16,") != std::string::npos;
    if (function == "kQuantizeBlockwiseSmall" && fp32) {
        return quantize<float>(templateArgument(kernel, 1), templateArgument(kernel, 0), a);
    }
    if (function == "kQuantizeBlockwise" && fp32) {
        return quantize<float>(templateArgument(kernel, 3), templateArgument(kernel, 0), a);
    }
    if (function == "kDequantizeBlockwise" && fp32) {
        return dequantize<float>(templateArgument(kernel, 3), a);
    }
    if (function == "kDequantizeBlockwise" && bf16) {
        return dequantize<Bf16>(templateArgument(kernel, 3), a);
    }
    if ((function == "gemm_4bit_simt" || function == "gemm_4bit_sm80_m16n8k16") && bf16) {
        return gemm4Bit<Bf16>(a);
    }
    return nullptr;
}

}  // namespace bnb
