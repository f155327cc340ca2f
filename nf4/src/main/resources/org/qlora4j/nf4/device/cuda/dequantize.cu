// The values of frozen weights in 4 and 8 bits, all rows or those an index names (an embedding). Dense weights: see
// cast_rows in rows.cu. Elementwise launches, see common.cuh.
#include "common.cuh"

/** QuantType's codebooks as they decode, NF4 and then FP4. */
__device__ const float CODEBOOKS[32] = {
        -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
        -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
        0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
        0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
        0.0f, 0.0052083334885537624f, 0.6666666865348816f, 1.0f,
        0.3333333432674408f, 0.5f, 0.1666666716337204f, 0.25f,
        -0.0f, -0.0052083334885537624f, -0.6666666865348816f, -1.0f,
        -0.3333333432674408f, -0.5f, -0.1666666716337204f, -0.25f};

/** The scales of blocks: fp32, or codes of a second quantization if there are codes. */
struct BlockScales {
    const float* absmax;
    const unsigned char* codes;
    const float* map;
    u32 nestedBlockSize;
    float offset;

    /** map[code] * absmax2 and then + offset, two roundings as bitsandbytes' two calls. */
    __device__ __forceinline__ float at(u32 block) const {
        if (codes == nullptr) {
            return absmax[block];
        }
        return addRounded(mulRounded(map[codes[block]], absmax[block / nestedBlockSize]), offset);
    }
};

template <class T>
__device__ __forceinline__ void dequantize4(T* out, int outStride, const unsigned char* packed, BlockScales scales,
                                            int blockShift, int fp4, const int* index, int rows, int cols) {
    // sixteen banks, one for each code: lanes never wait for each other
    DYNAMIC_SHARED(float, codebook);
    if (threadIdx.x < 16) {
        codebook[threadIdx.x] = CODEBOOKS[(fp4 ? 16 : 0) + threadIdx.x];
    }
    __syncthreads();
    bool wide = isWide(out, outStride, rows);
    // then eight elements are a word of codes, and of one block, whose size is a multiple of 32
    bool wholeWords = cols % 8 == 0 && ((u64) packed & 3) == 0;
    for (Pieces at(cols); at.row < rows; at.next()) {
        int row = index == nullptr ? at.row : index[at.row];
        i64 first = (i64) row * cols + at.col();
        float v[8];
        if (wholeWords) {
            u32 word = *(const u32*) (packed + first / 2);
            float scale = scales.at((u32) (first >> blockShift));
#pragma unroll
            for (int k = 0; k < 8; k++) {
                // the first element of a byte is its high nibble
                v[k] = codebook[word >> ((k ^ 1) * 4) & 15] * scale;
            }
        } else {
#pragma unroll 1
            for (int k = 0; k < 8; k++) {
                if (k < at.count()) {
                    i64 element = first + k;
                    u32 pair = packed[element / 2];
                    u32 code = element % 2 == 0 ? pair >> 4 : pair & 15;
                    storeElement(out + (i64) at.row * outStride + at.col() + k,
                                 codebook[code] * scales.at((u32) (element >> blockShift)));
                }
            }
            continue;
        }
        store8(out + (i64) at.row * outStride + at.col(), v, at.count(), wide);
    }
}

/**
 * out[i] = row index[i] of a 4-bit weight, or row i if index is null: codebook[nibble] * absmax of its block, rounded
 * once to fp32 and once to out's type. out[rows, cols]; blocks of 2^blockShift elements run over the flattened weight.
 * Plain scales: absmax[blocks], codes and map null. Nested: codes[blocks], absmax[ceil(blocks / nestedBlockSize)],
 * map[256]. Shared memory: 64 bytes.
 */
extern "C" __global__ void dequantize_4bit_bf16(bf16* out, int outStride, const unsigned char* packed,
                                                const float* absmax, const unsigned char* codes, const float* map,
                                                int nestedBlockSize, float offset, int blockShift, int fp4,
                                                const int* index, int rows, int cols) {
    BlockScales scales = {absmax, codes, map, (u32) nestedBlockSize, offset};
    dequantize4(out, outStride, packed, scales, blockShift, fp4, index, rows, cols);
}

extern "C" __global__ void dequantize_4bit_f32(float* out, int outStride, const unsigned char* packed,
                                               const float* absmax, const unsigned char* codes, const float* map,
                                               int nestedBlockSize, float offset, int blockShift, int fp4,
                                               const int* index, int rows, int cols) {
    BlockScales scales = {absmax, codes, map, (u32) nestedBlockSize, offset};
    dequantize4(out, outStride, packed, scales, blockShift, fp4, index, rows, cols);
}

template <class T>
__device__ __forceinline__ void dequantize8(T* out, int outStride, const signed char* codes, int codesStride,
                                            const float* absmax, const int* index, int rows, int cols) {
    // 1 / 127 as bitsandbytes has it
    const float inverse127 = 7.874015718698502e-3f;
    bool wide = isWide(out, outStride, rows);
    bool wholeWords = ((u64) codes & 7) == 0 && codesStride % 8 == 0;
    for (Pieces at(cols); at.row < rows; at.next()) {
        int row = index == nullptr ? at.row : index[at.row];
        const signed char* from = codes + (i64) row * codesStride + at.col();
        float scale = absmax[row];
        float v[8];
        if (wholeWords && at.count() == 8) {
            uint2 words = *(const uint2*) from;
#pragma unroll
            for (int k = 0; k < 8; k++) {
                v[k] = (float) (signed char) ((k < 4 ? words.x : words.y) >> k % 4 * 8);
            }
        } else {
#pragma unroll
            for (int k = 0; k < 8; k++) {
                v[k] = k < at.count() ? (float) from[k] : 0.f;
            }
        }
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] = v[k] * scale * inverse127;
        }
        store8(out + (i64) at.row * outStride + at.col(), v, at.count(), wide);
    }
}

/** out[i] = row index[i] of an int8 weight, or row i if index is null: code * absmax[row] / 127. out[rows, cols]. */
extern "C" __global__ void dequantize_int8_bf16(bf16* out, int outStride, const signed char* codes, int codesStride,
                                                const float* absmax, const int* index, int rows, int cols) {
    dequantize8(out, outStride, codes, codesStride, absmax, index, rows, cols);
}

extern "C" __global__ void dequantize_int8_f32(float* out, int outStride, const signed char* codes, int codesStride,
                                               const float* absmax, const int* index, int rows, int cols) {
    dequantize8(out, outStride, codes, codesStride, absmax, index, rows, cols);
}
