// CUDA C++ on the host: a kernel's threads are fibres of one operating system thread, which switch at barriers and warp
// functions only. Blocks, warps and lanes run in an order that a seed decides; shared memory starts as NaN and ends at a
// page nobody may touch. A kernel that relies on an order that a GPU does not promise gives other results here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __constant__ static const

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;

    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct float2 {
    float x, y;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

struct alignas(8) uint2 {
    unsigned x, y;
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

inline float2 make_float2(float x, float y) {
    return {x, y};
}

inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}

inline unsigned __float_as_uint(float f) {
    unsigned bits;
    memcpy(&bits, &f, 4);
    return bits;
}

inline float __uint_as_float(unsigned bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

inline float rsqrtf(float x) {
    return 1.f / sqrtf(x);
}

inline float __expf(float x) {
    return expf(x);
}

inline float __logf(float x) {
    return logf(x);
}

inline float __fdividef(float a, float b) {
    return a / b;
}

inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}

inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}

inline int __ffs(int x) {
    return __builtin_ffs(x);
}

template <class T> inline T min(T a, T b) {
    return a < b ? a : b;
}

template <class T> inline T max(T a, T b) {
    return a > b ? a : b;
}

namespace shim {

enum State { READY, AT_BARRIER, IN_WARP, DONE };

/** A __syncthreads() of a source. Tests take one out, and look whether the kernel's result tells. */
struct Barrier {
    const char* file;
    int line;
    bool skipped;

    Barrier(const char* path, int line);
};

/** Takes a barrier out, e.g. "norm.cu:40", and puts back the one taken out before; "" takes out none. */
void skipBarrier(const char* fileAndLine);

/** Those that some thread has come to, e.g. "norm.cu:40", one a line. */
std::string barriers();

/** A thread of the block that runs. */
struct Fibre {
    void* stack;
    uint3 thread;
    State state;
    /** The one it waits at. */
    const Barrier* barrier;
};

/** What the lanes of a warp hand to each other; two sets, since a fast lane may be one exchange ahead. */
struct Warp {
    alignas(16) unsigned char slots[2][32][64];
    int parity[32];
    int arrived;
    unsigned mask;
    int kind;
};

struct Block {
    std::vector<Fibre> fibres;
    std::vector<Warp> warps;
    /** Fibres in the order they get their turn, and each one's place in it. */
    std::vector<int> order, place;
    void* scheduler;
    int position, waiting, live;
};

struct Context {
    uint3 block;
    /** Counts the blocks of all launches. */
    uint64_t number;
    dim3 blockSize, gridSize;
    /** Dynamic shared memory. */
    unsigned char* dyn;
    size_t dynBytes;
    Block b;
    std::function<void()> kernel;
    uint64_t random;
};

extern thread_local Context* C;
extern thread_local Fibre* current;

/** Runs a kernel to its end. @param kernel calls it with its arguments @param seed of the order */
void launch(dim3 grid, dim3 block, size_t sharedBytes, uint64_t seed, const std::function<void()>& kernel);

/** Ends the process: the kernel did what no GPU allows. */
[[noreturn]] void die(const std::string& message);

void barrier(const Barrier& barrier);

/**
 * Every lane of the mask hands in n bytes and gets those of all lanes.
 *
 * @param kind of the function: all lanes must be in the same one
 */
unsigned char (*exchange(const void* bytes, int n, unsigned mask, int kind))[64];

}  // namespace shim

#define threadIdx (shim::current->thread)
#define blockIdx (shim::C->block)
#define blockDim (shim::C->blockSize)
#define gridDim (shim::C->gridSize)
#define __syncthreads() \
    ([] { \
        static shim::Barrier here(__FILE__, __LINE__); \
        shim::barrier(here); \
    }())

inline int shim_lane() {
    return (int) (shim::current - &shim::C->b.fibres[0]) & 31;
}

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    char nothing = 0;
    shim::exchange(&nothing, 1, mask, 1);
}

template <class T> inline T shim_from_lane(unsigned mask, T value, int kind, int lane) {
    auto slots = shim::exchange(&value, sizeof value, mask, kind);
    T result;
    memcpy(&result, slots[lane], sizeof result);
    return result;
}

template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    return shim_from_lane(mask, value, 2, (shim_lane() ^ lanes) & 31);
}

template <class T> inline T __shfl_sync(unsigned mask, T value, int lane) {
    return shim_from_lane(mask, value, 3, lane & 31);
}

template <class T> inline T __shfl_down_sync(unsigned mask, T value, int by) {
    int from = shim_lane() + by;
    return shim_from_lane(mask, value, 4, from < 32 ? from : shim_lane());
}

template <class T> inline T __shfl_up_sync(unsigned mask, T value, int by) {
    int from = shim_lane() - by;
    return shim_from_lane(mask, value, 5, from >= 0 ? from : shim_lane());
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    auto slots = shim::exchange(&predicate, sizeof predicate, mask, 6);
    unsigned result = 0;
    for (int lane = 0; lane < 32; lane++) {
        int theirs;
        memcpy(&theirs, slots[lane], sizeof theirs);
        if ((mask >> lane & 1) != 0 && theirs != 0) {
            result |= 1u << lane;
        }
    }
    return result;
}

inline int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}

inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == mask;
}
