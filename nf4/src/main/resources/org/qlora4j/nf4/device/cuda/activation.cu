// Gated activations and the cap of scores, forward and backward, all [rows, cols]. Elementwise launches, see
// common.cuh. Results may be the operands that Ops allows: a thread reads its elements before it writes them.
#include "common.cuh"

/** 1 / (1 + e^-g). */
__device__ __forceinline__ float sigmoid(float g) {
    return 1.f / (1.f + expf(-g));
}

/** What the tanh form of GELU computes on the way. */
struct Gelu {
    /** 1 + tanh(...), so that gelu(g) = g / 2 * (1 + t) */
    float onePlusTanh;
    /** derivative of gelu */
    float slope;

    __device__ __forceinline__ explicit Gelu(float g) {
        const float rootTwoOverPi = 0.7978845608028654f;
        const float cube = 0.044715f;
        // beyond 16 tanh is 1 in fp32; the clamp keeps g^2 of huge gates finite
        float c = fminf(fmaxf(g, -16.f), 16.f);
        float t = tanhf(rootTwoOverPi * (c + cube * c * c * c));
        float inner = rootTwoOverPi * (1.f + 3.f * cube * c * c);
        onePlusTanh = 1.f + t;
        slope = 0.5f * (1.f + t + c * (1.f - t * t) * inner);
    }
};

/** y = bf16(silu(gate)) * up; rounded between as Hugging Face's two operations round. */
extern "C" __global__ void swiglu(bf16* y, int yStride, const bf16* gate, int gateStride, const bf16* up, int upStride,
                                  int rows, int cols) {
    bool wide = isWide(y, yStride, rows) && isWide(gate, gateStride, rows) && isWide(up, upStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        float g[8];
        float u[8];
        load8(g, gate + (i64) at.row * gateStride + at.col(), at.count(), wide);
        load8(u, up + (i64) at.row * upStride + at.col(), at.count(), wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            g[k] = roundBf16(g[k] * sigmoid(g[k])) * u[k];
        }
        store8(y + (i64) at.row * yStride + at.col(), g, at.count(), wide);
    }
}

/** dUp = dy * silu(gate), dGate = dy * up * silu'(gate). */
extern "C" __global__ void swiglu_backward(bf16* dGate, int dGateStride, bf16* dUp, int dUpStride, const bf16* dy,
                                           int dyStride, const bf16* gate, int gateStride, const bf16* up,
                                           int upStride, int rows, int cols) {
    bool wide = isWide(dGate, dGateStride, rows) && isWide(dUp, dUpStride, rows) && isWide(dy, dyStride, rows)
            && isWide(gate, gateStride, rows) && isWide(up, upStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        float d[8];
        float g[8];
        float u[8];
        load8(d, dy + (i64) at.row * dyStride + at.col(), at.count(), wide);
        load8(g, gate + (i64) at.row * gateStride + at.col(), at.count(), wide);
        load8(u, up + (i64) at.row * upStride + at.col(), at.count(), wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            float s = sigmoid(g[k]);
            float dGateK = d[k] * u[k] * s * (1.f + g[k] * (1.f - s));
            u[k] = d[k] * g[k] * s;
            g[k] = dGateK;
        }
        store8(dGate + (i64) at.row * dGateStride + at.col(), g, at.count(), wide);
        store8(dUp + (i64) at.row * dUpStride + at.col(), u, at.count(), wide);
    }
}

/** y = bf16(gelu(gate)) * up; rounded between as Hugging Face's two operations round. */
extern "C" __global__ void geglu(bf16* y, int yStride, const bf16* gate, int gateStride, const bf16* up, int upStride,
                                 int rows, int cols) {
    bool wide = isWide(y, yStride, rows) && isWide(gate, gateStride, rows) && isWide(up, upStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        float g[8];
        float u[8];
        load8(g, gate + (i64) at.row * gateStride + at.col(), at.count(), wide);
        load8(u, up + (i64) at.row * upStride + at.col(), at.count(), wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            g[k] = roundBf16(0.5f * g[k] * Gelu(g[k]).onePlusTanh) * u[k];
        }
        store8(y + (i64) at.row * yStride + at.col(), g, at.count(), wide);
    }
}

/** dUp = dy * gelu(gate), dGate = dy * up * gelu'(gate). */
extern "C" __global__ void geglu_backward(bf16* dGate, int dGateStride, bf16* dUp, int dUpStride, const bf16* dy,
                                          int dyStride, const bf16* gate, int gateStride, const bf16* up, int upStride,
                                          int rows, int cols) {
    bool wide = isWide(dGate, dGateStride, rows) && isWide(dUp, dUpStride, rows) && isWide(dy, dyStride, rows)
            && isWide(gate, gateStride, rows) && isWide(up, upStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        float d[8];
        float g[8];
        float u[8];
        load8(d, dy + (i64) at.row * dyStride + at.col(), at.count(), wide);
        load8(g, gate + (i64) at.row * gateStride + at.col(), at.count(), wide);
        load8(u, up + (i64) at.row * upStride + at.col(), at.count(), wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            Gelu gelu(g[k]);
            float dGateK = d[k] * u[k] * gelu.slope;
            u[k] = d[k] * (0.5f * g[k] * gelu.onePlusTanh);
            g[k] = dGateK;
        }
        store8(dGate + (i64) at.row * dGateStride + at.col(), g, at.count(), wide);
        store8(dUp + (i64) at.row * dUpStride + at.col(), u, at.count(), wide);
    }
}

/** y = cap * tanh(x / cap); y may be x. */
extern "C" __global__ void softcap(bf16* y, int yStride, const bf16* x, int xStride, int rows, int cols, float cap) {
    bool wide = isWide(y, yStride, rows) && isWide(x, xStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        float v[8];
        load8(v, x + (i64) at.row * xStride + at.col(), at.count(), wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] = cap * tanhf(v[k] / cap);
        }
        store8(y + (i64) at.row * yStride + at.col(), v, at.count(), wide);
    }
}

/** dx = dy * (1 - (y / cap)^2) with the forward's y; dx may be dy. */
extern "C" __global__ void softcap_backward(bf16* dx, int dxStride, const bf16* dy, int dyStride, const bf16* y,
                                            int yStride, int rows, int cols, float cap) {
    bool wide = isWide(dx, dxStride, rows) && isWide(dy, dyStride, rows) && isWide(y, yStride, rows);
    for (Pieces at(cols); at.row < rows; at.next()) {
        float d[8];
        float v[8];
        load8(d, dy + (i64) at.row * dyStride + at.col(), at.count(), wide);
        load8(v, y + (i64) at.row * yStride + at.col(), at.count(), wide);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            float t = v[k] / cap;
            d[k] *= 1.f - t * t;
        }
        store8(dx + (i64) at.row * dxStride + at.col(), d, at.count(), wide);
    }
}
