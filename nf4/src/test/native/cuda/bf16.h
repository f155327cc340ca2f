// bfloat16 as the simulated libraries store it: the upper half of a float, rounded to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

struct Bf16 {
    uint16_t bits;
};

inline float load(float v) {
    return v;
}

inline float load(Bf16 v) {
    uint32_t bits = (uint32_t) v.bits << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

inline void store(float* p, float v) {
    *p = v;
}

inline void store(Bf16* p, float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bool nan = (bits & 0x7fffffff) > 0x7f800000;
    p->bits = nan ? 0x7fff : (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
