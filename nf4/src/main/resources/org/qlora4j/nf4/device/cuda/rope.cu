// Rotary embedding. Elementwise launch over [rows, heads * ceil(half / 8) * 8], see common.cuh.
#include "common.cuh"

/**
 * In each head of x[rows, heads * headDim], for j < half: (a, b) = (x[j], x[half + j]) becomes (a cos - b sin,
 * b cos + a sin), with row positions[row] of the tables [positions, half]. The inverse turns the other way; elements
 * from 2 half on stay.
 */
extern "C" __global__ void rope(bf16* x, int xStride, const float* cosines, int cosStride, const float* sines,
                                int sinStride, const int* positions, int rows, int heads, int headDim, int half,
                                int inverse) {
    int perHead = (half + 7) / 8;
    bool wideA = isWide(x, xStride, rows) && headDim % 8 == 0;
    bool wideB = wideA && half % 8 == 0;
    // the tables' rows are not known; they have more than one
    bool wideCos = isWide(cosines, cosStride, 2);
    bool wideSin = isWide(sines, sinStride, 2);
    for (Pieces at(heads * perHead * 8); at.row < rows; at.next()) {
        int head = at.piece / perHead;
        int j = at.piece % perHead * 8;
        int n = min(8, half - j);
        bf16* pa = x + (i64) at.row * xStride + head * headDim + j;
        int position = positions[at.row];
        float a[8];
        float b[8];
        float c[8];
        float s[8];
        load8(a, pa, n, wideA);
        load8(b, pa + half, n, wideB);
        load8(c, cosines + (i64) position * cosStride + j, n, wideCos);
        load8(s, sines + (i64) position * sinStride + j, n, wideSin);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            float sine = inverse ? -s[k] : s[k];
            float turned = a[k] * c[k] - b[k] * sine;
            b[k] = b[k] * c[k] + a[k] * sine;
            a[k] = turned;
        }
        store8(pa, a, n, wideA);
        store8(pa + half, b, n, wideB);
    }
}
