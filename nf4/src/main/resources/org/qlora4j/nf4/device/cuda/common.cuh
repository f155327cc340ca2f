// What all kernels share: number types, sums over warps and blocks, tensor core wrappers. No CUDA header is needed, so
// that NVRTC compiles the units on any machine; under g++ cuda_shim.h brings threads and warps, and the wrappers have
// twins in plain C++ behind #else.
//
// Conventions of all kernels
//   A matrix is a pointer and a stride in elements, at least its columns; rows and columns come last. Offsets of rows
//   are computed in 64 bits. Sizes are at least 1: for an empty matrix nothing is launched.
//   Views may start at any element. 16-byte accesses are used where address and stride allow it, else single elements.
//   Sums are fp32 in an order that depends on shape and launch only. Nothing is added atomically.
//
// Launching
//   elementwise  block 256, grid min(ceil(rows * ceil(cols / 8) / 256), 32 * multiprocessors); any grid is correct
//   row          cols > 1024: block 256, grid rows; else block (32, 8), a warp a row, grid ceil(rows / 8).
//                Shared memory: ROW_SHARED bytes
//   Others say it themselves.
#pragma once

#ifndef __CUDACC_RTC__
#include "cuda_shim.h"
#define DYNAMIC_SHARED(T, name) T* name = (T*) shim::C->dyn
#else
extern __shared__ __align__(16) unsigned char launchShared[];
/** The launch's shared memory, at a 16-byte border. */
#define DYNAMIC_SHARED(T, name) T* name = (T*) launchShared
#endif

typedef unsigned short bf16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

/** An IEEE half; a struct so that it is not mistaken for a bf16. */
struct f16 {
    unsigned short bits;
};

#define ALL_LANES 0xffffffffu

/** Bytes of shared memory that blockSum and blockMax need. */
#define ROW_SHARED (33 * 4)

__device__ __forceinline__ float infinity() {
    return __uint_as_float(0x7f800000);
}

// ---- number formats: all conversions round to nearest even

__device__ __forceinline__ float toFloat(float v) {
    return v;
}

__device__ __forceinline__ float toFloat(bf16 v) {
    return __uint_as_float((u32) v << 16);
}

/** The first and the second of two neighbouring bf16, as they lie in a little-endian word. */
__device__ __forceinline__ float lowBf16(u32 pair) {
    return __uint_as_float(pair << 16);
}

__device__ __forceinline__ float highBf16(u32 pair) {
    return __uint_as_float(pair & 0xffff0000u);
}

#ifdef __CUDA_ARCH__
__device__ __forceinline__ bf16 toBf16(float v) {
    bf16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v));
    return r;
}

/** Two neighbouring bf16; low is the first in memory. */
__device__ __forceinline__ u32 packBf16(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

__device__ __forceinline__ float toFloat(f16 v) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v.bits));
    return r;
}

__device__ __forceinline__ f16 toF16(float v) {
    f16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
    return r;
}

/** a * b and a + b rounded by themselves, never fused. */
__device__ __forceinline__ float mulRounded(float a, float b) {
    return __fmul_rn(a, b);
}

__device__ __forceinline__ float addRounded(float a, float b) {
    return __fadd_rn(a, b);
}
#else
inline bf16 toBf16(float v) {
    u32 bits = __float_as_uint(v);
    if ((bits & 0x7fffffff) > 0x7f800000) {
        return 0x7fff;
    }
    return (bf16) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline u32 packBf16(float low, float high) {
    return (u32) toBf16(low) | (u32) toBf16(high) << 16;
}

inline float toFloat(f16 v) {
    u32 sign = (u32) (v.bits & 0x8000) << 16;
    u32 exponent = v.bits >> 10 & 31;
    u32 mantissa = v.bits & 0x3ff;
    if (exponent == 31) {
        return __uint_as_float(sign | 0x7f800000 | mantissa << 13);
    }
    float magnitude = exponent == 0 ? ldexpf((float) mantissa, -24) : ldexpf((float) (mantissa | 0x400), (int) exponent - 25);
    return sign != 0 ? -magnitude : magnitude;
}

inline f16 toF16(float v) {
    u32 bits = __float_as_uint(v);
    unsigned short sign = (unsigned short) (bits >> 16 & 0x8000);
    float magnitude = fabsf(v);
    if (!(magnitude == magnitude)) {
        return {0x7fff};
    }
    if (magnitude >= 65520.f) {
        return {(unsigned short) (sign | 0x7c00)};
    }
    if (magnitude < 6.103515625e-5f) {
        return {(unsigned short) (sign | (unsigned short) nearbyintf(ldexpf(magnitude, 24)))};
    }
    u32 m = __float_as_uint(magnitude);
    return {(unsigned short) (sign | ((m + 0xfff + (m >> 13 & 1)) - (112u << 23)) >> 13)};
}

inline float mulRounded(float a, float b) {
    volatile float product = a * b;
    return product;
}

inline float addRounded(float a, float b) {
    volatile float sum = a + b;
    return sum;
}
#endif

/** What storing v as a bf16 leaves of it. */
__device__ __forceinline__ float roundBf16(float v) {
    return toFloat(toBf16(v));
}

__device__ __forceinline__ void storeElement(float* p, float v) {
    *p = v;
}

__device__ __forceinline__ void storeElement(bf16* p, float v) {
    *p = toBf16(v);
}

__device__ __forceinline__ void storeElement(f16* p, float v) {
    *p = toF16(v);
}

// ---- eight neighbouring elements, in fp32

/** Whether every eight elements from a multiple of eight columns on begin at a 16-byte border, in every row. */
template <class T> __device__ __forceinline__ bool isWide(const T* p, int stride, int rows) {
    return ((u64) p & 15) == 0 && (rows == 1 || stride % (int) (16 / sizeof(T)) == 0);
}

/** Eight elements and the 16-byte words they lie in. */
template <class T> union Eight {
    uint4 words[sizeof(T) / 2];
    T elements[8];
};

/**
 * Loads the first n of eight elements, zeros behind them.
 *
 * @param wide isWide() of the matrix, p being at a multiple of eight columns
 */
template <class T> __device__ __forceinline__ void load8(float (&v)[8], const T* p, int n, bool wide) {
    if (wide && n >= 8) {
        Eight<T> eight;
#pragma unroll
        for (int i = 0; i < (int) sizeof(T) / 2; i++) {
            eight.words[i] = ((const uint4*) p)[i];
        }
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] = toFloat(eight.elements[k]);
        }
    } else {
#pragma unroll
        for (int k = 0; k < 8; k++) {
            v[k] = k < n ? toFloat(p[k]) : 0.f;
        }
    }
}

/** Stores the first n of eight values, rounded to T. */
template <class T> __device__ __forceinline__ void store8(T* p, const float (&v)[8], int n, bool wide) {
    if (wide && n >= 8) {
        Eight<T> eight;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            storeElement(eight.elements + k, v[k]);
        }
#pragma unroll
        for (int i = 0; i < (int) sizeof(T) / 2; i++) {
            ((uint4*) p)[i] = eight.words[i];
        }
    } else {
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (k < n) {
                storeElement(p + k, v[k]);
            }
        }
    }
}

/**
 * A thread's share of a matrix in pieces of eight columns; the pieces go round all threads of the grid.
 *
 *     for (Pieces at(cols); at.row < rows; at.next()) { ... at.col(), at.count() ... }
 */
struct Pieces {
    int row;
    int piece;
    int cols;
    int perRow;
    int rowStep;
    int pieceStep;

    __device__ __forceinline__ explicit Pieces(int columns) {
        cols = columns;
        perRow = (columns + 7) / 8;
        i64 first = (i64) blockIdx.x * blockDim.x + threadIdx.x;
        i64 step = (i64) gridDim.x * blockDim.x;
        row = (int) (first / perRow);
        piece = (int) (first % perRow);
        rowStep = (int) (step / perRow);
        pieceStep = (int) (step % perRow);
    }

    __device__ __forceinline__ int col() const {
        return piece * 8;
    }

    /** Columns of this piece: 8, or fewer at the end of a row. */
    __device__ __forceinline__ int count() const {
        return min(8, cols - piece * 8);
    }

    __device__ __forceinline__ void next() {
        row += rowStep;
        piece += pieceStep;
        if (piece >= perRow) {
            piece -= perRow;
            row++;
        }
    }
};

// ---- sums and maxima; every lane of the warp, every thread of the block takes part and gets the result

template <class T> __device__ __forceinline__ T warpSum(T v) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        v += __shfl_xor_sync(ALL_LANES, v, distance);
    }
    return v;
}

/** NaN is left out. */
__device__ __forceinline__ float warpMax(float v) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, distance));
    }
    return v;
}

/** For blocks of one dimension. @param shared one T for each warp and one more; free for other use behind a barrier */
template <class T> __device__ __forceinline__ T blockSum(T v, T* shared) {
    int lane = threadIdx.x & 31;
    int warp = threadIdx.x / 32;
    int warps = (blockDim.x + 31) / 32;
    v = warpSum(v);
    // the caller may still read what it had there
    __syncthreads();
    if (lane == 0) {
        shared[warp] = v;
    }
    __syncthreads();
    if (warp == 0) {
        T sum = warpSum(lane < warps ? shared[lane] : (T) 0);
        if (lane == 0) {
            shared[32] = sum;
        }
    }
    __syncthreads();
    return shared[32];
}

/** As blockSum. NaN is left out. */
__device__ __forceinline__ float blockMax(float v, float* shared) {
    int lane = threadIdx.x & 31;
    int warp = threadIdx.x / 32;
    int warps = (blockDim.x + 31) / 32;
    v = warpMax(v);
    // the caller may still read what it had there
    __syncthreads();
    if (lane == 0) {
        shared[warp] = v;
    }
    __syncthreads();
    if (warp == 0) {
        float max = warpMax(lane < warps ? shared[lane] : -infinity());
        if (lane == 0) {
            shared[32] = max;
        }
    }
    __syncthreads();
    return shared[32];
}

/** Sum over the threads of a row, see "row" launches above: a warp's or the block's. */
__device__ __forceinline__ float rowSum(float v, float* shared) {
    return blockDim.x == 32 ? warpSum(v) : blockSum(v, shared);
}

/** The row of this thread in a "row" launch; it may be past the last one, then the whole warp ends. */
__device__ __forceinline__ int launchRow() {
    return blockIdx.x * blockDim.y + threadIdx.y;
}

// ---- tensor cores and asynchronous copies (sm_80 and later)

#ifdef __CUDA_ARCH__
/** A bit for each lane in which the condition holds. */
__device__ __forceinline__ u32 ballot(bool condition) {
    return __ballot_sync(ALL_LANES, condition);
}

/** The number of the lowest bit that is set. */
__device__ __forceinline__ int lowestBit(u32 mask) {
    return __ffs(mask) - 1;
}

__device__ __forceinline__ u32 sharedAddress(const void* p) {
    return (u32) __cvta_generic_to_shared(p);
}

/**
 * d[16, 8] += a[16, 16] * b[8, 16]^T of one warp, bf16 in and fp32 out (PTX mma.m16n8k16). Lane l holds, with g = l / 4
 * and t = l % 4: of a the pairs of columns 2t and 2t + 8 of rows g and g + 8 in the order (g, 2t), (g + 8, 2t),
 * (g, 2t + 8), (g + 8, 2t + 8); of b row g, columns 2t and 2t + 8; of d rows g and g + 8, columns 2t and 2t + 1.
 */
__device__ __forceinline__ void mma16x8x16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/**
 * Four 8x8 matrices of bf16 from shared memory. Lane l names row l % 8 of matrix l / 8, 16 bytes at a 16-byte border;
 * it gets of each matrix row l / 4, columns 2 (l % 4) and the next.
 */
__device__ __forceinline__ void loadMatrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(sharedAddress(row))
                 : "memory");
}

/** The same of the transposed matrices: the lane gets column l / 4, rows 2 (l % 4) and the next. */
__device__ __forceinline__ void loadMatricesTransposed(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(sharedAddress(row))
                 : "memory");
}

/** Starts copying 16 bytes to shared memory, or zeros if !exists (global is then not read); both at 16-byte borders. */
__device__ __forceinline__ void copyAsync16(void* shared, const void* global, bool exists) {
    int bytes = exists ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n"
                 :
                 : "r"(sharedAddress(shared)), "l"(global), "r"(bytes)
                 : "memory");
}

/** Ends a group: this thread's copies started since the last one. */
__device__ __forceinline__ void commitCopies() {
    asm volatile("cp.async.commit_group;\n" : : : "memory");
}

/** Waits until at most N of this thread's groups are under way. Other threads' copies need a barrier as well. */
template <int N> __device__ __forceinline__ void waitCopies() {
    asm volatile("cp.async.wait_group %0;\n" : : "n"(N) : "memory");
}
#else
// Numbers that tell the shim which warp operation a lane has come to; all lanes must come to the same.
enum WarpOperation { MMA = 10, MATRICES = 11, MATRICES_TRANSPOSED = 12, BALLOT = 13 };

inline u32 ballot(bool condition) {
    unsigned char vote = condition;
    auto votes = shim::exchange(&vote, 1, ALL_LANES, BALLOT);
    u32 mask = 0;
    for (int lane = 0; lane < 32; lane++) {
        mask |= (u32) votes[lane][0] << lane;
    }
    return mask;
}

inline int lowestBit(u32 mask) {
    return __builtin_ctz(mask);
}

inline void mma16x8x16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    struct Operands {
        u32 a[4];
        u32 b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    auto lanes = shim::exchange(&mine, sizeof mine, ALL_LANES, MMA);
    int g = shim_lane() / 4;
    int t = shim_lane() % 4;
    for (int row = 0; row < 2; row++) {
        for (int col = 0; col < 2; col++) {
            float sum = 0;
            for (int k = 0; k < 4; k++) {
                const Operands* rowLane = (const Operands*) lanes[g * 4 + k];
                const Operands* colLane = (const Operands*) lanes[(2 * t + col) * 4 + k];
                for (int half = 0; half < 2; half++) {
                    u32 x = rowLane->a[row + 2 * half];
                    u32 y = colLane->b[half];
                    sum += lowBf16(x) * lowBf16(y) + highBf16(x) * highBf16(y);
                }
            }
            d[row * 2 + col] += sum;
        }
    }
}

inline void loadMatrices(u32 (&r)[4], const void* row) {
    auto rows = shim::exchange(&row, sizeof row, ALL_LANES, MATRICES);
    int lane = shim_lane();
    for (int i = 0; i < 4; i++) {
        const bf16* p = *(const bf16**) rows[i * 8 + lane / 4] + 2 * (lane % 4);
        r[i] = p[0] | (u32) p[1] << 16;
    }
}

inline void loadMatricesTransposed(u32 (&r)[4], const void* row) {
    auto rows = shim::exchange(&row, sizeof row, ALL_LANES, MATRICES_TRANSPOSED);
    int lane = shim_lane();
    for (int i = 0; i < 4; i++) {
        const bf16* first = *(const bf16**) rows[i * 8 + 2 * (lane % 4)];
        const bf16* second = *(const bf16**) rows[i * 8 + 2 * (lane % 4) + 1];
        r[i] = first[lane / 4] | (u32) second[lane / 4] << 16;
    }
}

/** A thread's copies under way: they happen when they are waited for, so that a missing wait shows. */
struct AsyncCopies {
    struct Copy {
        void* shared;
        const void* global;
        bool exists;
        int group;
    };
    std::vector<Copy> copies;
    int group = 0;
    u64 block = 0;

    /** Those of the current thread; ends the process if its last block left some under way. */
    static AsyncCopies& mine() {
        static thread_local std::vector<AsyncCopies> all;
        size_t thread = threadIdx.x + (size_t) blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        if (all.size() <= thread) {
            all.resize(thread + 1);
        }
        AsyncCopies& it = all[thread];
        if (it.block != shim::C->number) {
            if (!it.copies.empty()) {
                shim::die("a block ended with asynchronous copies under way");
            }
            it.block = shim::C->number;
        }
        return it;
    }

    void wait(int underWay) {
        size_t done = 0;
        for (; done < copies.size() && copies[done].group < group - underWay; done++) {
            const Copy& copy = copies[done];
            if (copy.exists) {
                memcpy(copy.shared, copy.global, 16);
            } else {
                memset(copy.shared, 0, 16);
            }
        }
        copies.erase(copies.begin(), copies.begin() + done);
    }
};

inline void copyAsync16(void* shared, const void* global, bool exists) {
    if ((((u64) shared | (u64) global) & 15) != 0) {
        shim::die("asynchronous copy of 16 bytes at an address that is no multiple of 16");
    }
    AsyncCopies& mine = AsyncCopies::mine();
    mine.copies.push_back({shared, global, exists, mine.group});
}

inline void commitCopies() {
    AsyncCopies::mine().group++;
}

template <int N> inline void waitCopies() {
    AsyncCopies::mine().wait(N);
}
#endif
