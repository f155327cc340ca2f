#include "sim.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda_shim.h"

namespace sim {

std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

namespace {

constexpr size_t PAGE = 4096;

/** Protecting 32 MiB takes 16 steps in pages of this size, and 8,192 in small ones. */
constexpr size_t HUGE_PAGE = 2 << 20;

struct Stream;

/** "Wait until that stream has done so much." */
struct Dependency {
    Stream* stream;
    uint64_t count;
};

struct Work {
    std::function<void()> run;
    std::vector<Dependency> after;
};

struct Stream {
    bool blocking = true;
    std::deque<Work> queue;
    uint64_t given = 0, done = 0;
};

/** Content ends at a page nobody may touch; the host may touch none of it while no work runs. */
struct Allocation {
    unsigned char* region;
    size_t regionBytes;
    unsigned char* content;
    size_t contentBytes;
    size_t bytes;
    bool managed;
    bool open;
};

struct Event {
    std::vector<Dependency> recorded;
};

std::recursive_mutex lock;
std::map<uint64_t, Allocation> allocations;
std::map<Stream*, std::unique_ptr<Stream>> streams;
std::map<Event*, std::unique_ptr<Event>> events;
Stream legacy;
int running = 0;
uint64_t launches = 0;
/** Of the last kernel of libbitsandbytes. */
std::string launchText;
uint64_t memoryBytes = 0, allocatedBytes = 0, peakBytes = 0;

uint64_t capacity() {
    if (memoryBytes == 0) {
        const char* text = getenv("SIM_MEMORY");
        memoryBytes = text == nullptr ? 4ull << 30 : strtoull(text, nullptr, 10);
    }
    return memoryBytes;
}

bool idle() {
    if (!legacy.queue.empty()) {
        return false;
    }
    for (auto& s : streams) {
        if (!s.second->queue.empty()) {
            return false;
        }
    }
    return true;
}

/** Device memory is there while work runs only; managed memory also while nothing is left to do. */
void protect() {
    bool free = idle();
    for (auto& a : allocations) {
        bool open = running > 0 || (a.second.managed && free);
        if (open != a.second.open) {
            mprotect(a.second.content, a.second.contentBytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
            a.second.open = open;
        }
    }
}

/** Runs a stream up to a point; others only as far as this needs them. */
void runUpTo(Stream& s, uint64_t count) {
    while (s.done < count) {
        if (s.queue.empty()) {
            fprintf(stderr, "sim: a stream waits for work that it was not given\n");
            abort();
        }
        Work work = std::move(s.queue.front());
        for (Dependency& d : work.after) {
            runUpTo(*d.stream, d.count);
        }
        s.queue.pop_front();
        if (work.run) {
            work.run();
        }
        s.done++;
    }
}

Stream* find(void* handle) {
    // 1 is CUDA's other name of the legacy stream
    if (handle == nullptr || handle == (void*) 1) {
        return &legacy;
    }
    auto found = streams.find((Stream*) handle);
    return found == streams.end() ? nullptr : found->second.get();
}

int give(Stream& s, std::function<void()> work, std::vector<Dependency> after) {
    if (&s == &legacy) {
        for (auto& other : streams) {
            if (other.second->blocking) {
                after.push_back({other.second.get(), other.second->given});
            }
        }
    } else if (s.blocking) {
        after.push_back({&legacy, legacy.given});
    }
    bool wasIdle = idle();
    s.queue.push_back({std::move(work), std::move(after)});
    s.given++;
    if (wasIdle) {
        protect();
    }
    return SUCCESS;
}

void drain(Stream& s, uint64_t count) {
    if (s.done >= count) {
        return;
    }
    running++;
    if (running == 1) {
        protect();
    }
    runUpTo(s, count);
    running--;
    if (running == 0) {
        protect();
    }
}

void drain(Stream& s) {
    drain(s, s.given);
}

}  // namespace

int enqueue(void* handle, std::function<void()> work) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    Stream* s = find(handle);
    return s == nullptr ? INVALID_HANDLE : give(*s, std::move(work), {});
}

int synchronize(void* handle) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    Stream* s = find(handle);
    if (s == nullptr) {
        return INVALID_HANDLE;
    }
    drain(*s);
    return SUCCESS;
}

int allocate(uint64_t* address, size_t bytes, bool managed) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (bytes == 0 || address == nullptr) {
        return INVALID_VALUE;
    }
    if (allocatedBytes + bytes > capacity()) {
        return OUT_OF_MEMORY;
    }
    size_t contentBytes = (bytes + PAGE - 1) / PAGE * PAGE;
    size_t alignment = contentBytes >= HUGE_PAGE ? HUGE_PAGE : PAGE;
    size_t regionBytes = contentBytes + alignment + PAGE;
    auto* region = (unsigned char*) mmap(
            nullptr, regionBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) {
        return OUT_OF_MEMORY;
    }
    auto* content = (unsigned char*) (((uintptr_t) region + alignment) / alignment * alignment);
    mprotect(content, contentBytes, PROT_READ | PROT_WRITE);
    if (alignment == HUGE_PAGE) {
        madvise(content, contentBytes, MADV_HUGEPAGE);
    }
    memset(content, 0xFF, contentBytes);
    // a GPU aligns to 256 bytes; what is allocated here ends at the guard page but for 15 bytes
    *address = (uint64_t) (content + contentBytes - (bytes + 15) / 16 * 16);
    allocations[*address] = {region, regionBytes, content, contentBytes, bytes, managed, true};
    allocatedBytes += bytes;
    peakBytes = allocatedBytes > peakBytes ? allocatedBytes : peakBytes;
    protect();
    return SUCCESS;
}

int release(uint64_t address) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    auto found = allocations.find(address);
    if (found == allocations.end()) {
        return INVALID_VALUE;
    }
    // freeing waits for all work
    drain(legacy);
    for (auto& s : streams) {
        drain(*s.second);
    }
    munmap(found->second.region, found->second.regionBytes);
    allocatedBytes -= found->second.bytes;
    allocations.erase(found);
    return SUCCESS;
}

void* newStream(bool blocking) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    auto owned = std::make_unique<Stream>();
    owned->blocking = blocking;
    Stream* s = owned.get();
    streams[s] = std::move(owned);
    return s;
}

int destroyStream(void* handle) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    Stream* s = find(handle);
    if (s == nullptr || s == &legacy) {
        return INVALID_HANDLE;
    }
    drain(*s);
    // others may still name it as something to wait for: it has done all it was given
    drain(legacy);
    for (auto& other : streams) {
        drain(*other.second);
    }
    for (auto& e : events) {
        e.second->recorded.clear();
    }
    streams.erase(s);
    return SUCCESS;
}

void* newEvent() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    auto owned = std::make_unique<Event>();
    Event* e = owned.get();
    events[e] = std::move(owned);
    return e;
}

int destroyEvent(void* handle) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return events.erase((Event*) handle) == 1 ? SUCCESS : INVALID_HANDLE;
}

int recordEvent(void* handle, void* stream) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    auto e = events.find((Event*) handle);
    Stream* s = find(stream);
    if (e == events.end() || s == nullptr) {
        return INVALID_HANDLE;
    }
    e->second->recorded = {{s, s->given}};
    return SUCCESS;
}

int waitEvent(void* stream, void* handle) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    auto e = events.find((Event*) handle);
    Stream* s = find(stream);
    if (e == events.end() || s == nullptr) {
        return INVALID_HANDLE;
    }
    return give(*s, nullptr, e->second->recorded);
}

int synchronizeEvent(void* handle) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    auto e = events.find((Event*) handle);
    if (e == events.end()) {
        return INVALID_HANDLE;
    }
    for (Dependency& d : e->second->recorded) {
        drain(*d.stream, d.count);
    }
    return SUCCESS;
}

void runKernel(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, size_t shared, const std::function<void()>& k) {
    shim::launch(dim3(gx, gy, gz), dim3(bx, by), shared, ++launches, k);
}

uint64_t freeBytes() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return capacity() - allocatedBytes;
}

uint64_t totalBytes() {
    return capacity();
}

uint64_t allocationCount() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return allocations.size();
}

uint64_t launchCount() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return launches;
}

uint64_t peak() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return peakBytes;
}

void setCapacity(uint64_t bytes) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    memoryBytes = bytes;
}

void noteLaunch(const std::string& text) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    launchText = text;
}

std::string lastLaunch() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return launchText;
}

}  // namespace sim
