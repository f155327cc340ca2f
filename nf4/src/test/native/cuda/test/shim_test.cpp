// The shim's own test: kernels that are right, and the same kernels with one mistake each.
//
//     shim_test                 lists the cases, one a line
//     shim_test CASE right      ends with 0: the result is right whatever the order of threads
//     shim_test CASE broken     ends otherwise: a wrong result (1) or a process that dies, which says why
//
// A case CASE@FILE:LINE is the right kernel without that barrier.
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common.cuh"

namespace {

constexpr int SEEDS = 8;

using Floats = std::vector<float>;

/** To the bit: all numbers here are small integers. Not a number is never equal. */
bool equal(const Floats& got, const Floats& expected) {
    for (size_t i = 0; i < expected.size(); i++) {
        if (!(got[i] == expected[i])) {
            return false;
        }
    }
    return got.size() == expected.size();
}

/** Whether a kernel that fills `out` gives what is expected in every order. */
bool always(dim3 grid, dim3 block, size_t shared, const Floats& expected, const std::function<void(float*)>& kernel) {
    for (int seed = 0; seed < SEEDS; seed++) {
        Floats out(expected.size(), NAN);
        shim::launch(grid, block, shared, seed, [&] { kernel(out.data()); });
        if (!equal(out, expected)) {
            return false;
        }
    }
    return true;
}

Floats numbers(int n, const std::function<float(int)>& f) {
    Floats values(n);
    for (int i = 0; i < n; i++) {
        values[i] = f(i);
    }
    return values;
}

// Kernels. BROKEN leaves out, or does, what a careless author would.

/** out[t] = the number of the thread half a block away. */
template <bool BROKEN> void neighbour(float* out) {
    DYNAMIC_SHARED(float, shared);
    shared[threadIdx.x] = (float) threadIdx.x;
    if (!BROKEN) {
        __syncthreads();
    }
    out[threadIdx.x] = shared[(threadIdx.x + blockDim.x / 2) % blockDim.x];
}

/** The buffer is filled twice; without the barrier between, a late reader gets the second filling. */
template <bool BROKEN> void reused(float* out) {
    DYNAMIC_SHARED(float, shared);
    float sum = 0.f;
    for (int round = 1; round <= 3; round++) {
        shared[threadIdx.x] = (float) round;
        __syncthreads();
        sum += shared[(threadIdx.x + 37) % blockDim.x];
        if (!BROKEN) {
            __syncthreads();
        }
    }
    out[threadIdx.x] = sum;
}

/** Lanes hand on through shared memory. */
template <bool BROKEN> void warpNeighbour(float* out) {
    DYNAMIC_SHARED(float, shared);
    shared[threadIdx.x] = (float) threadIdx.x;
    if (!BROKEN) {
        __syncwarp();
    }
    out[threadIdx.x] = shared[threadIdx.x ^ 1];
}

/** Only the first warp comes to the barrier. */
template <bool BROKEN> void divergent(float* out) {
    if (!BROKEN || threadIdx.x < 32) {
        __syncthreads();
    }
    out[threadIdx.x] = 1.f;
}

/** Two barriers instead of one. */
template <bool BROKEN> void twoBarriers(float* out) {
    if (BROKEN && threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1.f;
}

/** A thread returns before the others' barrier. */
template <bool BROKEN> void early(float* out) {
    out[threadIdx.x] = 1.f;
    if (BROKEN && threadIdx.x >= 40) {
        return;
    }
    __syncthreads();
}

/** Half the warp shuffles with all of it. */
template <bool BROKEN> void absentLanes(float* out) {
    float v = 1.f;
    if (!BROKEN || threadIdx.x < 16) {
        v = warpSum(v);
    }
    out[threadIdx.x] = v;
}

/** A lane names others only. */
template <bool BROKEN> void notInMask(float* out) {
    float v = 1.f;
    if (threadIdx.x < 16) {
        v = __shfl_sync(BROKEN ? 0xffff0000u : 0xffffu, v, 0);
    }
    out[threadIdx.x] = v;
}

/** Lanes come to different warp functions. */
template <bool BROKEN> void mixed(float* out) {
    float v = 1.f;
    v = BROKEN && threadIdx.x % 2 == 1 ? __shfl_down_sync(ALL_LANES, v, 1) : __shfl_xor_sync(ALL_LANES, v, 1);
    out[threadIdx.x] = v;
}

/** Shared memory is not zero at the start. */
template <bool BROKEN> void uninitialized(float* out) {
    DYNAMIC_SHARED(float, shared);
    if (!BROKEN) {
        shared[threadIdx.x] = 0.f;
    }
    shared[threadIdx.x] += 1.f;
    out[threadIdx.x] = shared[threadIdx.x];
}

/** Blocks run in any order: one may not take from another. */
template <bool BROKEN> void blocksInOrder(float* out) {
    float before = 0.f;
    for (int b = 0; !BROKEN && b < (int) blockIdx.x; b++) {
        before += 1.f;
    }
    if (BROKEN && blockIdx.x > 0) {
        before = out[blockIdx.x - 1];
    }
    out[blockIdx.x] = before + 1.f;
}

enum Copying { RIGHT, NO_WAIT, NO_BARRIER, WAITS_TOO_LITTLE, NOT_COMMITTED };

/** 16 bytes a thread to shared memory in two groups, of which each thread then reads others'. */
template <Copying HOW> void copies(float* out, const float* in) {
    DYNAMIC_SHARED(float, shared);
    int half = blockDim.x * 4;
    copyAsync16(shared + threadIdx.x * 4, in + threadIdx.x * 4, true);
    commitCopies();
    copyAsync16(shared + half + threadIdx.x * 4, in + half + threadIdx.x * 4, threadIdx.x != 0);
    if (HOW != NOT_COMMITTED) {
        commitCopies();
    }
    if (HOW == WAITS_TOO_LITTLE) {
        waitCopies<1>();
    } else if (HOW != NO_WAIT) {
        waitCopies<0>();
    }
    if (HOW != NO_BARRIER) {
        __syncthreads();
    }
    for (int i = 0; i < 8; i++) {
        int at = i * blockDim.x + threadIdx.x;
        out[at] = shared[at];
    }
}

/** Hands numbers on through the shared memory that sums and maxima use as well. */
float throughShared(float* shared) {
    int t = threadIdx.x;
    __syncthreads();
    if (t < 33) {
        shared[t] = (float) t;
    }
    __syncthreads();
    return shared[(t + 17) % 33];
}

/** Sums and maxima of common.cuh, one behind the other in the same shared memory. */
void blockSums(float* out) {
    DYNAMIC_SHARED(float, shared);
    float t = (float) threadIdx.x;
    float before = throughShared(shared);
    float first = blockSum(t, shared);
    float second = blockSum(2.f * t, shared);
    before += throughShared(shared);
    float largest = blockMax(threadIdx.x == 33 ? 5.f : 1.f, shared);
    float smallest = -blockMax(threadIdx.x == 70 ? 3.f : -4.f, shared);
    out[threadIdx.x] = before + first + second + 1000.f * largest + 1000.f * smallest;
}

/** d[16, 8] = a[16, 16] * b[8, 16]^T through ldmatrix and mma, a stored transposed if asked. */
template <bool BROKEN> void tensorCore(float* out, const bf16* a, const bf16* b) {
    int lane = threadIdx.x;
    u32 x[4];
    u32 y[4];
    // matrices in the order (rows 0, columns 0), (8, 0), (0, 8), (8, 8)
    loadMatrices(x, a + (lane % 16) * 16 + lane / 16 * 8);
    // b is [8, 16]: two matrices, named twice; the mistake transposes each
    const bf16* row = b + (lane % 8) * 16 + (lane / 8 % 2) * 8;
    if (BROKEN) {
        loadMatricesTransposed(y, row);
    } else {
        loadMatrices(y, row);
    }
    float d[4] = {};
    mma16x8x16(d, x, y[0], y[1]);
    for (int i = 0; i < 4; i++) {
        out[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = d[i];
    }
}

// Cases

using Run = std::function<bool()>;

struct Case {
    Run right, broken;
};

std::map<std::string, Case> cases;

template <class Kernel> Run onBlock(Kernel kernel, int threads, const std::function<float(int)>& expected) {
    return [=] { return always(1, threads, threads * sizeof(float), numbers(threads, expected), kernel); };
}

float one(int) {
    return 1.f;
}

template <Copying HOW> bool copy() {
    constexpr int THREADS = 96;
    alignas(16) static float in[THREADS * 8];
    for (int i = 0; i < THREADS * 8; i++) {
        in[i] = (float) (i + 1);
    }
    // the first copy of the second half fills with zeros
    Floats expected = numbers(THREADS * 8, [](int i) { return i / 4 == THREADS ? 0.f : in[i]; });
    return always(1, THREADS, sizeof in, expected, [&](float* out) { copies<HOW>(out, in); });
}

template <bool BROKEN> bool multiply() {
    std::vector<bf16> a(16 * 16), b(8 * 16);
    Floats expected(16 * 8);
    for (int i = 0; i < 16 * 16; i++) {
        a[i] = toBf16((float) (i * 7 % 23 - 11));
    }
    for (int i = 0; i < 8 * 16; i++) {
        b[i] = toBf16((float) (i * 5 % 19 - 9));
    }
    for (int r = 0; r < 16; r++) {
        for (int c = 0; c < 8; c++) {
            for (int k = 0; k < 16; k++) {
                expected[r * 8 + c] += toFloat(a[r * 16 + k]) * toFloat(b[c * 16 + k]);
            }
        }
    }
    return always(1, 32, 0, expected, [&](float* out) { tensorCore<BROKEN>(out, a.data(), b.data()); });
}

bool sums(size_t sharedBytes) {
    constexpr int THREADS = 96;
    float sum = THREADS * (THREADS - 1) / 2;
    Floats expected = numbers(THREADS, [=](int t) { return 2.f * ((t + 17) % 33) + 3.f * sum + 5000.f - 3000.f; });
    return always(1, THREADS, sharedBytes, expected, blockSums);
}

/** The kernel without one barrier after the other. */
void withoutEachBarrier(const std::string& name, const Run& run) {
    run();
    std::string left = shim::barriers();
    for (size_t end; (end = left.find('\n')) != std::string::npos; left = left.substr(end + 1)) {
        std::string barrier = left.substr(0, end);
        cases[name + "@" + barrier] = {run, [=] {
                                           shim::skipBarrier(barrier.c_str());
                                           return run();
                                       }};
    }
}

void addCases() {
    // first: no other kernel's barriers are known yet
    withoutEachBarrier("block_sums", [] { return sums(ROW_SHARED); });
    cases["too_little_shared_memory"] = {[] { return sums(ROW_SHARED); }, [] { return sums(ROW_SHARED - 4); }};
    cases["neighbour"] = {onBlock(neighbour<false>, 128, [](int t) { return (float) ((t + 64) % 128); }),
                          onBlock(neighbour<true>, 128, [](int t) { return (float) ((t + 64) % 128); })};
    cases["reused_buffer"] = {
            onBlock(reused<false>, 128, [](int) { return 6.f; }), onBlock(reused<true>, 128, [](int) { return 6.f; })};
    cases["warp_neighbour"] = {onBlock(warpNeighbour<false>, 64, [](int t) { return (float) (t ^ 1); }),
                               onBlock(warpNeighbour<true>, 64, [](int t) { return (float) (t ^ 1); })};
    cases["divergent_barrier"] = {onBlock(divergent<false>, 64, one), onBlock(divergent<true>, 64, one)};
    cases["two_barriers"] = {onBlock(twoBarriers<false>, 64, one), onBlock(twoBarriers<true>, 64, one)};
    cases["ended_before_barrier"] = {onBlock(early<false>, 64, one), onBlock(early<true>, 64, one)};
    cases["absent_lanes"] = {
            onBlock(absentLanes<false>, 32, [](int) { return 32.f; }),
            onBlock(absentLanes<true>, 32, [](int) { return 32.f; })};
    cases["lane_not_in_mask"] = {onBlock(notInMask<false>, 32, one), onBlock(notInMask<true>, 32, one)};
    cases["mixed_warp_functions"] = {onBlock(mixed<false>, 32, one), onBlock(mixed<true>, 32, one)};
    cases["uninitialized_shared"] = {onBlock(uninitialized<false>, 32, one), onBlock(uninitialized<true>, 32, one)};
    Floats counted = numbers(20, [](int b) { return (float) (b + 1); });
    cases["blocks_in_order"] = {[=] { return always(20, 1, 0, counted, blocksInOrder<false>); },
                                [=] { return always(20, 1, 0, counted, blocksInOrder<true>); }};
    cases["copies_not_awaited"] = {copy<RIGHT>, copy<NO_WAIT>};
    cases["copies_of_other_threads"] = {copy<RIGHT>, copy<NO_BARRIER>};
    cases["copies_awaited_too_little"] = {copy<RIGHT>, copy<WAITS_TOO_LITTLE>};
    cases["copies_not_committed"] = {copy<RIGHT>, copy<NOT_COMMITTED>};
    cases["tensor_core"] = {multiply<false>, multiply<true>};
}

}  // namespace

int main(int count, char** arguments) {
    addCases();
    if (count != 3) {
        for (auto& c : cases) {
            puts(c.first.c_str());
        }
        return 0;
    }
    auto found = cases.find(arguments[1]);
    if (found == cases.end()) {
        fprintf(stderr, "no case %s\n", arguments[1]);
        return 2;
    }
    bool right = strcmp(arguments[2], "right") == 0;
    bool equal = right ? found->second.right() : found->second.broken();
    fprintf(stderr, "%s\n", equal ? "right result" : "wrong result");
    return equal ? 0 : 1;
}
