// libbitsandbytes' kernels as plain loops, by its documented behaviour. Arguments are decoded by the kernels' parameter
// lists, which differ from those of the C functions around them.
#include "bitsandbytes.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace bnb {
namespace {

enum DataType { GENERAL_8BIT = 0, FP4 = 1, NF4 = 2 };
enum Rule { ADAM = 0, MOMENTUM = 1, RMSPROP = 2, ADAGRAD = 4, LION = 5, ADEMAMIX = 6 };

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

struct Bf16 {
    uint16_t bits;
};

float load(float v) {
    return v;
}

float load(Bf16 v) {
    uint32_t bits = (uint32_t) v.bits << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

void store(float* p, float v) {
    *p = v;
}

void store(Bf16* p, float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bool nan = (bits & 0x7fffffff) > 0x7f800000;
    p->bits = nan ? 0x7fff : (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/** The arguments of a launch, one after the other. */
class Arguments {
public:
    explicit Arguments(void** addresses) : next(addresses) {}

    template <class T> operator T() {
        return *(T*) *next++;
    }

private:
    void** next;
};

float decode4(int type, int code) {
    if (type == NF4) {
        return NF4_VALUES[code];
    }
    return code & 8 ? -FP4_VALUES[code & 7] : FP4_VALUES[code & 7];
}

/** Thresholds lie between neighbours, and a number on one belongs to the lower. NaN passes none. */
int encode4(int type, float v) {
    if (type == NF4) {
        int code = 0;
        while (code < 15 && v > (NF4_VALUES[code] + NF4_VALUES[code + 1]) * 0.5f) {
            code++;
        }
        return code;
    }
    const int ascending[8] = {0, 1, 6, 7, 4, 5, 2, 3};
    float magnitude = fabsf(v);
    int rank = 0;
    while (rank < 7 && magnitude > (FP4_VALUES[ascending[rank]] + FP4_VALUES[ascending[rank + 1]]) * 0.5f) {
        rank++;
    }
    return ascending[rank] | (v < 0 ? 8 : 0);
}

/** Seven steps of bisection, then the nearer neighbour. */
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

template <class T> std::function<void()> quantize(int type, int blockSize, Arguments a) {
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
                    float next = i + 1 < first + count ? load(x[i + 1]) * reciprocal : 0.f;
                    out[i / 2] = (uint8_t) (encode4(type, v) << 4 | encode4(type, next));
                }
            }
        }
    };
}

/** The real kernel loads the scale of every element of its last tile, which may lie behind n. */
template <class T> std::function<void()> dequantize(int type, Arguments a) {
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

template <class T> std::function<void()> gemm4Bit(Arguments a) {
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

struct Numbers {
    float beta1, beta2, beta3, alpha, eps, weightDecay, lr, scale;
    int step;
};

float sign(float v) {
    return v > 0 ? 1.f : v < 0 ? -1.f : 0.f;
}

float decayed(float g, float p, int rule, const Numbers& c) {
    return rule == LION || c.weightDecay <= 0 ? g : g + p * c.weightDecay;
}

/** One parameter of a rule with one state. @param g with the decay @param raw without, for 8-bit state */
float stepOne(int rule, float p, float g, float raw, float& s, const Numbers& c) {
    switch (rule) {
        case MOMENTUM:
            s = c.step == 1 ? g : s * c.beta1 + g;
            return p - c.lr * s;
        case LION: {
            float before = c.weightDecay > 0 ? p * (1.f - c.lr * c.weightDecay) : p;
            float direction = sign(s * c.beta1 + (1.f - c.beta1) * g);
            s = s * c.beta2 + (1.f - c.beta2) * g;
            return before - c.lr * direction;
        }
        case RMSPROP:
            s = s * c.beta1 + (1.f - c.beta1) * g * g;
            return p - c.lr * raw / (sqrtf(s) + c.eps);
        default:
            s = s + g * g;
            return p - c.lr * raw / (sqrtf(s) + c.eps);
    }
}

/** One parameter of Adam, or of AdEMAMix with its slow average. The decay comes after the step. */
float stepTwo(int rule, float p, float g, float& m, float& slow, float& v, const Numbers& c) {
    float correction1 = 1.f - powf(c.beta1, (float) c.step);
    float correction2 = sqrtf(1.f - powf(c.beta2, (float) c.step));
    m = m * c.beta1 + (1.f - c.beta1) * g;
    v = v * c.beta2 + (1.f - c.beta2) * g * g;
    if (rule == ADEMAMIX) {
        slow = slow * c.beta3 + (1.f - c.beta3) * g;
        p -= c.lr * ((m / correction1 + c.alpha * slow) / (sqrtf(v) / correction2 + c.eps));
    } else {
        p += -c.lr * correction2 / correction1 * (m / (sqrtf(v) + c.eps * correction2));
    }
    return c.weightDecay > 0 ? p * (1.f - c.lr * c.weightDecay) : p;
}

std::function<void()> step32One(int rule, Arguments a) {
    float* g = a;
    float* p = a;
    float* state = a;
    [[maybe_unused]] float* unorm = a;
    [[maybe_unused]] float maxUnorm = a;
    [[maybe_unused]] float paramNorm = a;
    Numbers c{};
    c.beta1 = a;
    c.beta2 = a;
    c.eps = a;
    c.weightDecay = a;
    c.step = a;
    c.lr = a;
    c.scale = a;
    [[maybe_unused]] bool skipZeros = a;
    int n = a;
    return [=] {
        for (int i = 0; i < n; i++) {
            float gradient = decayed(c.scale * g[i], p[i], rule, c);
            p[i] = stepOne(rule, p[i], gradient, gradient, state[i], c);
        }
    };
}

std::function<void()> step32Two(int rule, Arguments a) {
    float* g = a;
    float* p = a;
    float* state1 = a;
    float* state2 = a;
    [[maybe_unused]] float* unorm = a;
    [[maybe_unused]] float maxUnorm = a;
    [[maybe_unused]] float paramNorm = a;
    Numbers c{};
    c.beta1 = a;
    c.beta2 = a;
    c.beta3 = a;
    c.alpha = a;
    c.eps = a;
    c.weightDecay = a;
    c.step = a;
    c.lr = a;
    c.scale = a;
    [[maybe_unused]] bool skipZeros = a;
    int n = a;
    return [=] {
        for (int i = 0; i < n; i++) {
            float none = 0;
            float& slow = rule == ADEMAMIX ? state1[n + i] : none;
            p[i] = stepTwo(rule, p[i], c.scale * g[i], state1[i], slow, state2[i], c);
        }
    };
}

constexpr int STATE_BLOCK = 256;

void decodeState(float* values, const uint8_t* codes, const float* map, float absmax, int count) {
    for (int i = 0; i < count; i++) {
        values[i] = map[codes[i]] * absmax;
    }
}

/** The nearest codes; one of the wrong sign moves by one. */
float encodeState(const float* values, uint8_t* codes, const float* map, int count, bool isSigned) {
    float absmax = 0;
    for (int i = 0; i < count; i++) {
        absmax = fmaxf(absmax, fabsf(values[i]));
    }
    for (int i = 0; i < count; i++) {
        int code = encode8(map, values[i] / absmax);
        if (isSigned && std::signbit(map[code]) != std::signbit(values[i])) {
            code += values[i] > 0 ? 1 : -1;
        }
        codes[i] = (uint8_t) code;
    }
    return absmax;
}

std::function<void()> step8One(int rule, Arguments a) {
    float* p = a;
    float* g = a;
    uint8_t* state = a;
    Numbers c{};
    c.beta1 = a;
    c.beta2 = a;
    c.eps = a;
    c.step = a;
    c.lr = a;
    float* map = a;
    float* absmax = a;
    c.weightDecay = a;
    c.scale = a;
    [[maybe_unused]] bool skipZeros = a;
    int n = a;
    return [=] {
        for (int first = 0; first < n; first += STATE_BLOCK) {
            int count = n - first < STATE_BLOCK ? n - first : STATE_BLOCK;
            float s[STATE_BLOCK];
            decodeState(s, state + first, map, absmax[first / STATE_BLOCK], count);
            for (int i = 0; i < count; i++) {
                float& parameter = p[first + i];
                // the update of RMSprop and Adagrad takes the gradient as it came
                float raw = g[first + i];
                parameter = stepOne(rule, parameter, decayed(c.scale * raw, parameter, rule, c), raw, s[i], c);
            }
            absmax[first / STATE_BLOCK] = encodeState(s, state + first, map, count, true);
        }
    };
}

std::function<void()> step8Two(int rule, Arguments a) {
    float* p = a;
    float* g = a;
    uint8_t* state1 = a;
    uint8_t* state2 = a;
    Numbers c{};
    c.beta1 = a;
    c.beta2 = a;
    c.beta3 = a;
    c.alpha = a;
    c.eps = a;
    c.step = a;
    c.lr = a;
    float* map1 = a;
    float* map2 = a;
    float* absmax1 = a;
    float* absmax2 = a;
    c.weightDecay = a;
    c.scale = a;
    [[maybe_unused]] bool skipZeros = a;
    int n = a;
    return [=] {
        int blocks = (n + STATE_BLOCK - 1) / STATE_BLOCK;
        for (int b = 0; b < blocks; b++) {
            int first = b * STATE_BLOCK;
            int count = n - first < STATE_BLOCK ? n - first : STATE_BLOCK;
            float m[STATE_BLOCK], slow[STATE_BLOCK] = {}, v[STATE_BLOCK];
            decodeState(m, state1 + first, map1, absmax1[b], count);
            decodeState(v, state2 + first, map2, absmax2[b], count);
            if (rule == ADEMAMIX) {
                decodeState(slow, state1 + n + first, map1, absmax1[blocks + b], count);
            }
            for (int i = 0; i < count; i++) {
                p[first + i] = stepTwo(rule, p[first + i], c.scale * g[first + i], m[i], slow[i], v[i], c);
            }
            absmax1[b] = encodeState(m, state1 + first, map1, count, true);
            absmax2[b] = encodeState(v, state2 + first, map2, count, false);
            if (rule == ADEMAMIX) {
                absmax1[blocks + b] = encodeState(slow, state1 + n + first, map1, count, true);
            }
        }
    };
}

/** The i-th integer template argument of a mangled name: "Li512E". */
int number(const std::string& mangled, int i) {
    size_t at = 0;
    for (int k = 0; k <= i; k++) {
        at = mangled.find("Li", at) + 2;
    }
    return atoi(mangled.c_str() + at);
}

bool is(const std::string& mangled, const char* kernel) {
    return mangled.find(std::string(kernel) + "I") != std::string::npos;
}

}  // namespace

std::function<void()> hostKernel(const std::string& mangled, void** addresses) {
    Arguments a(addresses);
    bool bf16 = mangled.find("13__nv_bfloat16") != std::string::npos;
    bool fp32 = mangled.find("IfLi") != std::string::npos;
    if (is(mangled, "kQuantizeBlockwiseSmall") && fp32) {
        return quantize<float>(number(mangled, 1), number(mangled, 0), a);
    }
    if (is(mangled, "kQuantizeBlockwise") && fp32) {
        return quantize<float>(number(mangled, 3), number(mangled, 0), a);
    }
    if (is(mangled, "kDequantizeBlockwise")) {
        int type = number(mangled, 3);
        return bf16 ? dequantize<Bf16>(type, a) : fp32 ? dequantize<float>(type, a) : nullptr;
    }
    if ((is(mangled, "gemm_4bit_simt") || is(mangled, "gemm_4bit_sm80_m16n8k16")) && bf16) {
        return gemm4Bit<Bf16>(a);
    }
    if (is(mangled, "kOptimizer32bit1State") && fp32) {
        return step32One(number(mangled, 0), a);
    }
    if (is(mangled, "kOptimizer32bit2State") && fp32) {
        return step32Two(number(mangled, 0), a);
    }
    if (is(mangled, "kOptimizerStatic8bit1StateBlockwise") && fp32) {
        return step8One(number(mangled, 0), a);
    }
    if (is(mangled, "kOptimizerStatic8bit2StateBlockwise") && fp32) {
        return step8Two(number(mangled, 0), a);
    }
    return nullptr;
}

}  // namespace bnb
