// Optimizer steps, fp32 parameters and gradients.
#include <cmath>

#include "bitsandbytes.h"

namespace bnb {
namespace {

enum Rule { ADAM = 0, MOMENTUM = 1, RMSPROP = 2, ADAGRAD = 4, LION = 5, ADEMAMIX = 6 };

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

Work step32One(int rule, Arguments a) {
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

Work step32Two(int rule, Arguments a) {
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

/** @param absent the code of the threads behind the end of the last block, which take part with a gradient of 0 */
void decodeState(float* values, const uint8_t* codes, int absent, const float* map, float absmax, int count) {
    for (int i = 0; i < STATE_BLOCK; i++) {
        values[i] = map[i < count ? codes[i] : absent] * absmax;
    }
}

/** The nearest codes; one of the wrong sign moves by one. */
float encodeState(const float* values, uint8_t* codes, const float* map, int count, bool isSigned) {
    float absmax = 0;
    for (int i = 0; i < STATE_BLOCK; i++) {
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

constexpr int ABSENT_SIGNED = 128, ABSENT_UNSIGNED = 0;

Work step8One(int rule, Arguments a) {
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
            decodeState(s, state + first, ABSENT_SIGNED, map, absmax[first / STATE_BLOCK], count);
            for (int i = 0; i < STATE_BLOCK; i++) {
                float absent = 0;
                float& parameter = i < count ? p[first + i] : absent;
                // the update of RMSprop and Adagrad takes the gradient as it came
                float raw = i < count ? g[first + i] : 0;
                parameter = stepOne(rule, parameter, decayed(c.scale * raw, parameter, rule, c), raw, s[i], c);
            }
            absmax[first / STATE_BLOCK] = encodeState(s, state + first, map, count, true);
        }
    };
}

Work step8Two(int rule, Arguments a) {
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
        for (int first = 0; first < n; first += STATE_BLOCK) {
            int b = first / STATE_BLOCK;
            int count = n - first < STATE_BLOCK ? n - first : STATE_BLOCK;
            float m[STATE_BLOCK], slow[STATE_BLOCK] = {}, v[STATE_BLOCK];
            decodeState(m, state1 + first, ABSENT_SIGNED, map1, absmax1[b], count);
            decodeState(v, state2 + first, ABSENT_UNSIGNED, map2, absmax2[b], count);
            // where n is no multiple of the block, this is the scale of a block of m too
            float* absmaxSlow = rule == ADEMAMIX ? absmax1 + (n + first) / STATE_BLOCK : nullptr;
            if (rule == ADEMAMIX) {
                decodeState(slow, state1 + n + first, ABSENT_SIGNED, map1, *absmaxSlow, count);
            }
            for (int i = 0; i < STATE_BLOCK; i++) {
                float absent = 0;
                float& parameter = i < count ? p[first + i] : absent;
                float gradient = i < count ? g[first + i] : 0;
                if (std::isfinite(gradient)) {
                    parameter = stepTwo(rule, parameter, c.scale * gradient, m[i], slow[i], v[i], c);
                } else {
                    m[i] = slow[i] = v[i] = 0;
                }
            }
            absmax1[b] = encodeState(m, state1 + first, map1, count, true);
            absmax2[b] = encodeState(v, state2 + first, map2, count, false);
            if (rule == ADEMAMIX) {
                *absmaxSlow = encodeState(slow, state1 + n + first, map1, count, true);
            }
        }
    };
}

}  // namespace

Work optimizerKernel(const std::string& kernel, Arguments a) {
    std::string function = kernel.substr(0, kernel.find('<'));
    if (kernel.find("<float,") == std::string::npos) {
        return nullptr;
    }
    int rule = templateArgument(kernel, 0);
    if (function == "kOptimizer32bit1State") {
        return step32One(rule, a);
    }
    if (function == "kOptimizer32bit2State") {
        return step32Two(rule, a);
    }
    if (function == "kOptimizerStatic8bit1StateBlockwise") {
        return step8One(rule, a);
    }
    if (function == "kOptimizerStatic8bit2StateBlockwise") {
        return step8Two(rule, a);
    }
    return nullptr;
}

}  // namespace bnb
