#include "cuda_shim.h"

#include <sys/mman.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace shim {

thread_local Context* C;
thread_local Fibre* current;

namespace {

constexpr size_t STACK = 64 << 10;
constexpr size_t PAGE = 4096;

std::vector<Barrier*> known;
std::string skippedName;

std::string name(const Barrier& barrier) {
    return std::string(barrier.file) + ":" + std::to_string(barrier.line);
}

extern "C" void shim_switch(void** save, void* to);

// Saves the registers that a call must keep on this stack, and goes on where the other one stopped.
asm(R"(
.globl shim_switch
.type shim_switch,@function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp,(%rdi)
    movq %rsi,%rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

/** The next one that can run, round robin; -1 if none can. */
int nextReady(const Block& b) {
    int n = (int) b.order.size();
    for (int i = 1; i <= n; i++) {
        int place = (b.position + i) % n;
        if (b.fibres[b.order[place]].state == READY) {
            return place;
        }
    }
    return -1;
}

void goTo(int place) {
    Block& b = C->b;
    Fibre* from = current;
    Fibre* to = &b.fibres[b.order[place]];
    b.position = place;
    if (to != from) {
        current = to;
        shim_switch(&from->stack, to->stack);
    }
}

void yield() {
    int place = nextReady(C->b);
    if (place < 0) {
        die("deadlock: every thread waits");
    }
    goTo(place);
}

/** Where every fibre begins. */
void entry() {
    C->kernel();
    Block& b = C->b;
    current->state = DONE;
    b.live--;
    void* unused;
    if (b.live == 0) {
        shim_switch(&unused, b.scheduler);
    }
    if (b.waiting == b.live) {
        die("__syncthreads() waits for threads that have ended");
    }
    int place = nextReady(b);
    if (place < 0) {
        die("deadlock: every thread waits for one that has ended");
    }
    b.position = place;
    current = &b.fibres[b.order[place]];
    shim_switch(&unused, current->stack);
    abort();
}

uint64_t next(uint64_t& state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

void shuffle(std::vector<int>& values, uint64_t& random) {
    for (size_t i = values.size(); i > 1; i--) {
        std::swap(values[i - 1], values[next(random) % i]);
    }
}

std::vector<int> ascending(int n) {
    std::vector<int> values(n);
    std::iota(values.begin(), values.end(), 0);
    return values;
}

/** Warps in random order, each beginning with a random lane. */
void setOrder(Block& b, int threads, uint64_t seed, uint64_t& random) {
    b.order = ascending(threads);
    if (seed != 0) {
        std::vector<int> warps = ascending((threads + 31) / 32);
        shuffle(warps, random);
        size_t k = 0;
        for (int w : warps) {
            int first = (int) (next(random) & 31);
            for (int l = 0; l < 32; l++) {
                int t = w * 32 + ((l + first) & 31);
                if (t < threads) {
                    b.order[k++] = t;
                }
            }
        }
    }
    b.place.resize(threads);
    for (int i = 0; i < threads; i++) {
        b.place[b.order[i]] = i;
    }
}

void runBlock(Context& c, int threads, unsigned char* stacks) {
    Block& b = c.b;
    for (Warp& w : b.warps) {
        w.arrived = 0;
        memset(w.parity, 0, sizeof w.parity);
    }
    b.waiting = 0;
    b.live = threads;
    dim3 size = c.blockSize;
    for (int i = 0; i < threads; i++) {
        Fibre& f = b.fibres[i];
        f.thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        f.state = READY;
        // not all at the same offset of a page: they would share a few sets of the cache
        uintptr_t top = (uintptr_t) (stacks + (size_t) (i + 1) * STACK - 64 - (size_t) (i * 7 % 61) * 16);
        void** stack = (void**) (top & ~(uintptr_t) 15);
        *--stack = nullptr;
        *--stack = (void*) entry;
        for (int k = 0; k < 6; k++) {
            *--stack = nullptr;
        }
        f.stack = stack;
    }
    b.position = 0;
    current = &b.fibres[b.order[0]];
    shim_switch(&b.scheduler, current->stack);
    current = nullptr;
}

/** Memory that ends at a page nobody may touch. */
struct Guarded {
    unsigned char* region;
    size_t bytes;

    explicit Guarded(size_t wanted) : bytes((wanted + PAGE - 1) / PAGE * PAGE + 2 * PAGE) {
        region = (unsigned char*) mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(region + PAGE, bytes - 2 * PAGE, PROT_READ | PROT_WRITE);
    }

    unsigned char* at(size_t wanted) const {
        return region + bytes - PAGE - (wanted + 15) / 16 * 16;
    }

    ~Guarded() {
        munmap(region, bytes);
    }
};

}  // namespace

void die(const std::string& message) {
    fprintf(
            stderr,
            "shim: %s; block %u,%u,%u thread %u,%u,%u\n",
            message.c_str(),
            C->block.x,
            C->block.y,
            C->block.z,
            current->thread.x,
            current->thread.y,
            current->thread.z);
    abort();
}

Barrier::Barrier(const char* path, int line) : line(line) {
    const char* slash = strrchr(path, '/');
    file = slash == nullptr ? path : slash + 1;
    skipped = name(*this) == skippedName;
    known.push_back(this);
}

void skipBarrier(const char* fileAndLine) {
    skippedName = fileAndLine;
    for (Barrier* b : known) {
        b->skipped = name(*b) == skippedName;
    }
}

std::string barriers() {
    // a template has one for each of its instances
    std::set<std::string> names;
    for (const Barrier* b : known) {
        names.insert(name(*b));
    }
    std::string text;
    for (const std::string& n : names) {
        text += n + "\n";
    }
    return text;
}

void barrier(const Barrier& barrier) {
    if (barrier.skipped) {
        return;
    }
    Block& b = C->b;
    current->barrier = &barrier;
    current->state = AT_BARRIER;
    b.waiting++;
    if (b.waiting < b.live) {
        yield();
        return;
    }
    if (b.live != (int) b.fibres.size()) {
        die("__syncthreads() after some threads have ended: " + name(barrier));
    }
    for (Fibre& f : b.fibres) {
        if (f.barrier->line != barrier.line || strcmp(f.barrier->file, barrier.file) != 0) {
            die("__syncthreads() in different lines: " + name(*f.barrier) + " and " + name(barrier));
        }
        f.state = READY;
    }
    b.waiting = 0;
}

unsigned char (*exchange(const void* bytes, int n, unsigned mask, int kind))[64] {
    Block& b = C->b;
    int thread = (int) (current - &b.fibres[0]);
    int lane = thread & 31;
    int first = thread & ~31;
    Warp& w = b.warps[thread >> 5];
    int set = w.parity[lane];
    w.parity[lane] ^= 1;
    if ((mask >> lane & 1) == 0) {
        die("a lane is not in its own mask");
    }
    memcpy(w.slots[set][lane], bytes, n);
    if (w.arrived == 0) {
        w.mask = mask;
        w.kind = kind;
    } else if (w.mask != mask || w.kind != kind) {
        die("lanes of a warp are in different functions");
    }
    w.arrived++;
    if (w.arrived == __builtin_popcount(mask)) {
        w.arrived = 0;
        for (int l = 0; l < 32 && first + l < (int) b.fibres.size(); l++) {
            if ((mask >> l & 1) != 0 && b.fibres[first + l].state == IN_WARP) {
                b.fibres[first + l].state = READY;
            }
        }
        return w.slots[set];
    }
    current->state = IN_WARP;
    // a lane of the same warp first: fewer switches
    for (int l = 1; l < 32; l++) {
        int other = first + ((lane + l) & 31);
        if (other < (int) b.fibres.size() && b.fibres[other].state == READY) {
            goTo(b.place[other]);
            return w.slots[set];
        }
    }
    yield();
    return w.slots[set];
}

void launch(dim3 grid, dim3 size, size_t sharedBytes, uint64_t seed, const std::function<void()>& kernel) {
    static thread_local unsigned char* stacks;
    static thread_local size_t stackBytes;
    static thread_local uint64_t blocksSoFar;
    int threads = (int) (size.x * size.y * size.z);
    if (stackBytes < threads * STACK) {
        if (stacks != nullptr) {
            munmap(stacks, stackBytes);
        }
        stackBytes = threads * STACK;
        stacks = (unsigned char*) mmap(
                nullptr, stackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    Context c;
    C = &c;
    c.blockSize = size;
    c.gridSize = grid;
    c.kernel = kernel;
    c.random = seed * 0x9e3779b97f4a7c15ull + 1;
    c.b.fibres.resize(threads);
    c.b.warps.resize((threads + 31) / 32);
    Guarded shared(sharedBytes);
    c.dyn = shared.at(sharedBytes);
    c.dynBytes = sharedBytes;
    std::vector<int> blocks = ascending((int) (grid.x * grid.y * grid.z));
    if (seed != 0) {
        shuffle(blocks, c.random);
    }
    for (int id : blocks) {
        c.block = {id % grid.x, id / grid.x % grid.y, id / (grid.x * grid.y)};
        c.number = ++blocksSoFar;
        memset(c.dyn, 0xFF, sharedBytes);
        setOrder(c.b, threads, seed, c.random);
        runBlock(c, threads, stacks);
    }
    C = nullptr;
}

}  // namespace shim
