// A stand-in for NVIDIA's driver: the functions that bindings/jextract/cuda.h declares, on the GPU of sim.h.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda_shim.h"
#include "sim.h"

namespace sim {
int release(uint64_t address);
void* newStream(bool blocking);
int destroyStream(void* handle);
void* newEvent();
int destroyEvent(void* handle);
int recordEvent(void* handle, void* stream);
int waitEvent(void* stream, void* handle);
int synchronizeEvent(void* handle);
uint64_t freeBytes();
uint64_t totalBytes();
uint64_t allocationCount();
uint64_t launchCount();
uint64_t peak();
void setCapacity(uint64_t bytes);
std::string lastLaunch();
}  // namespace sim

namespace {

using sim::INVALID_CONTEXT;
using sim::INVALID_HANDLE;
using sim::INVALID_VALUE;
using sim::NOT_FOUND;
using sim::SUCCESS;

/** The one primary context; its address is its handle. */
int primary;
int retained = 0;
thread_local void* currentContext = nullptr;

constexpr size_t MOST_SHARED = 99 << 10;

int environment(const char* name, int otherwise) {
    const char* text = getenv(name);
    return text == nullptr ? otherwise : atoi(text);
}

bool noContext() {
    return currentContext != &primary || retained == 0;
}

struct Location {
    int type, id;
};

/** CUDA_MEMCPY2D. */
struct Copy2D {
    size_t srcX, srcY;
    unsigned srcType;
    const void* srcHost;
    uint64_t srcDevice;
    void* srcArray;
    size_t srcPitch;
    size_t dstX, dstY;
    unsigned dstType;
    void* dstHost;
    uint64_t dstDevice;
    void* dstArray;
    size_t dstPitch;
    size_t width, height;
};

constexpr unsigned HOST = 1, DEVICE = 2;

// What tests ask and tell the simulator: attributes and device numbers that no GPU has.
enum Question {
    ALLOCATIONS = 1000,
    LAUNCHES = 1001,
    PEAK_MEBIBYTES = 1002,
    /** The device number is a size in MiB, 0 for that of the environment. */
    SET_MEMORY = 1100,
    /** The device number is that of a barrier to leave out, in the order of BARRIERS; -1 for none. */
    SKIP_BARRIER = 1101,
    /** Name of device: the last launch of libbitsandbytes; 255 letters, with the next number the next. */
    LAST_LAUNCH = 1000,
    BARRIERS = 2000,
};

std::string line(const std::string& text, int number) {
    size_t start = 0;
    for (int i = 0; i < number && start != std::string::npos; i++) {
        start = text.find('\n', start);
        start = start == std::string::npos ? start : start + 1;
    }
    return start == std::string::npos ? "" : text.substr(start, text.find('\n', start) - start);
}

}  // namespace

#define NEEDS_CONTEXT \
    if (noContext()) { \
        return INVALID_CONTEXT; \
    }

SIM_API int cuInit(unsigned) {
    return SUCCESS;
}

// NVRTC looks for a table of the driver's and does without it.
SIM_API int cuGetExportTable(const void** table, const void*) {
    *table = nullptr;
    return NOT_FOUND;
}

SIM_API int cuDriverGetVersion(int* version) {
    *version = environment("SIM_DRIVER_VERSION", 13020);
    return SUCCESS;
}

SIM_API int cuGetErrorName(int error, const char** text) {
    switch (error) {
        case INVALID_VALUE: *text = "CUDA_ERROR_INVALID_VALUE"; break;
        case sim::OUT_OF_MEMORY: *text = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case INVALID_CONTEXT: *text = "CUDA_ERROR_INVALID_CONTEXT"; break;
        case INVALID_HANDLE: *text = "CUDA_ERROR_INVALID_HANDLE"; break;
        case NOT_FOUND: *text = "CUDA_ERROR_NOT_FOUND"; break;
        default: *text = nullptr; return INVALID_VALUE;
    }
    return SUCCESS;
}

SIM_API int cuGetErrorString(int error, const char** text) {
    *text = "said by the simulated driver";
    const char* name;
    return cuGetErrorName(error, &name);
}

SIM_API int cuDeviceGetCount(int* count) {
    *count = environment("SIM_DEVICES", 1);
    return SUCCESS;
}

SIM_API int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < environment("SIM_DEVICES", 1) ? SUCCESS : INVALID_VALUE;
}

SIM_API int cuDeviceGetName(char* name, int length, int device) {
    std::string text = "simulated GPU";
    if (device >= LAST_LAUNCH) {
        text = device >= BARRIERS ? shim::barriers() : sim::lastLaunch();
        size_t piece = (size_t) (device >= BARRIERS ? device - BARRIERS : device - LAST_LAUNCH) * (length - 1);
        text = piece < text.size() ? text.substr(piece) : "";
    }
    snprintf(name, (size_t) length, "%s", text.c_str());
    return SUCCESS;
}

SIM_API int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = sim::totalBytes();
    return SUCCESS;
}

SIM_API int cuDeviceGetAttribute(int* value, int attribute, int device) {
    *value = 0;
    switch (attribute) {
        case ALLOCATIONS: *value = (int) sim::allocationCount(); break;
        case LAUNCHES: *value = (int) sim::launchCount(); break;
        case PEAK_MEBIBYTES: *value = (int) (sim::peak() >> 20); break;
        case SET_MEMORY: sim::setCapacity((uint64_t) device << 20); break;
        case SKIP_BARRIER: shim::skipBarrier(device < 0 ? "" : line(shim::barriers(), device).c_str()); break;
        case 13: *value = 1000000; break;  // kHz
        case 16: *value = 4; break;  // multiprocessors
        case 36: *value = 1000000; break;  // the memory's kHz
        case 37: *value = 256; break;  // bits of its bus
        case 75: *value = environment("SIM_ARCHITECTURE", 90) / 10; break;
        case 76: *value = environment("SIM_ARCHITECTURE", 90) % 10; break;
        case 89: *value = environment("SIM_CONCURRENT_MANAGED_ACCESS", 1); break;
        case 97: *value = MOST_SHARED; break;
        default: return INVALID_VALUE;
    }
    return SUCCESS;
}

SIM_API int cuDevicePrimaryCtxRetain(void** context, int) {
    retained++;
    *context = &primary;
    return SUCCESS;
}

SIM_API int cuDevicePrimaryCtxRelease_v2(int) {
    return retained-- > 0 ? SUCCESS : INVALID_CONTEXT;
}

SIM_API int cuCtxSetCurrent(void* context) {
    if (context != nullptr && context != &primary) {
        return INVALID_CONTEXT;
    }
    currentContext = context;
    return SUCCESS;
}

SIM_API int cuMemGetInfo_v2(size_t* free, size_t* total) {
    NEEDS_CONTEXT
    *free = sim::freeBytes();
    *total = sim::totalBytes();
    return SUCCESS;
}

SIM_API int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    NEEDS_CONTEXT
    return sim::allocate(address, bytes, false);
}

SIM_API int cuMemAllocManaged(uint64_t* address, size_t bytes, unsigned) {
    NEEDS_CONTEXT
    return sim::allocate(address, bytes, true);
}

SIM_API int cuMemFree_v2(uint64_t address) {
    NEEDS_CONTEXT
    return sim::release(address);
}

SIM_API int cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    NEEDS_CONTEXT
    *address = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *address == nullptr ? sim::OUT_OF_MEMORY : SUCCESS;
}

SIM_API int cuMemFreeHost(void* address) {
    NEEDS_CONTEXT
    free(address);
    return SUCCESS;
}

SIM_API int cuMemPrefetchAsync_v2(uint64_t, size_t bytes, Location location, unsigned, void* stream) {
    NEEDS_CONTEXT
    if (bytes == 0 || location.type < 1 || location.type > 2) {
        return INVALID_VALUE;
    }
    return sim::enqueue(stream, nullptr);
}

// The host's bytes are read when the stream gets there: one who reuses the buffer too early is found out.
SIM_API int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    NEEDS_CONTEXT
    return sim::enqueue(stream, [=] { memcpy((void*) to, from, bytes); });
}

// The host's bytes are spoiled until the stream gets there: one who reads too early is found out.
SIM_API int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    NEEDS_CONTEXT
    memset(to, 0xFF, bytes);
    return sim::enqueue(stream, [=] { memcpy(to, (const void*) from, bytes); });
}

SIM_API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    NEEDS_CONTEXT
    return sim::enqueue(stream, [=] { memmove((void*) to, (const void*) from, bytes); });
}

SIM_API int cuMemcpy2DAsync_v2(const Copy2D* copy, void* stream) {
    NEEDS_CONTEXT
    Copy2D c = *copy;
    bool types = (c.srcType == HOST && c.dstType == DEVICE) || (c.srcType == DEVICE && c.dstType == HOST);
    if (!types || c.srcPitch < c.width || c.dstPitch < c.width || c.srcX != 0 || c.srcY != 0 || c.dstX != 0
            || c.dstY != 0) {
        return INVALID_VALUE;
    }
    if (c.dstType == HOST) {
        for (size_t row = 0; row < c.height; row++) {
            memset((char*) c.dstHost + row * c.dstPitch, 0xFF, c.width);
        }
    }
    return sim::enqueue(stream, [=] {
        const char* from = c.srcType == HOST ? (const char*) c.srcHost : (const char*) c.srcDevice;
        char* to = c.dstType == HOST ? (char*) c.dstHost : (char*) c.dstDevice;
        for (size_t row = 0; row < c.height; row++) {
            memcpy(to + row * c.dstPitch, from + row * c.srcPitch, c.width);
        }
    });
}

SIM_API int cuMemsetD8Async(uint64_t address, unsigned char value, size_t count, void* stream) {
    NEEDS_CONTEXT
    return sim::enqueue(stream, [=] { memset((void*) address, value, count); });
}

SIM_API int cuMemsetD32Async(uint64_t address, unsigned value, size_t count, void* stream) {
    NEEDS_CONTEXT
    return sim::enqueue(stream, [=] {
        for (size_t i = 0; i < count; i++) {
            ((unsigned*) address)[i] = value;
        }
    });
}

SIM_API int cuStreamCreate(void** stream, unsigned flags) {
    NEEDS_CONTEXT
    *stream = sim::newStream(flags == 0);
    return flags > 1 ? INVALID_VALUE : SUCCESS;
}

SIM_API int cuStreamDestroy_v2(void* stream) {
    NEEDS_CONTEXT
    return sim::destroyStream(stream);
}

SIM_API int cuStreamSynchronize(void* stream) {
    NEEDS_CONTEXT
    return sim::synchronize(stream);
}

SIM_API int cuStreamWaitEvent(void* stream, void* event, unsigned) {
    NEEDS_CONTEXT
    return sim::waitEvent(stream, event);
}

SIM_API int cuEventCreate(void** event, unsigned) {
    NEEDS_CONTEXT
    *event = sim::newEvent();
    return SUCCESS;
}

SIM_API int cuEventDestroy_v2(void* event) {
    NEEDS_CONTEXT
    return sim::destroyEvent(event);
}

SIM_API int cuEventRecord(void* event, void* stream) {
    NEEDS_CONTEXT
    return sim::recordEvent(event, stream);
}

SIM_API int cuEventSynchronize(void* event) {
    NEEDS_CONTEXT
    return sim::synchronizeEvent(event);
}

SIM_API int cuEventElapsedTime(float* milliseconds, void* start, void* end) {
    NEEDS_CONTEXT
    *milliseconds = 1;
    int status = sim::synchronizeEvent(start);
    return status != SUCCESS ? status : sim::synchronizeEvent(end);
}

// Any image will do: the kernels are in this library already, under their names.
SIM_API int cuModuleLoadData(void** module, const void* image) {
    NEEDS_CONTEXT
    if (image == nullptr) {
        return INVALID_VALUE;
    }
    *module = malloc(1);
    return SUCCESS;
}

SIM_API int cuModuleUnload(void* module) {
    NEEDS_CONTEXT
    free(module);
    return SUCCESS;
}

SIM_API int cuModuleGetFunction(void** function, void*, const char* name) {
    NEEDS_CONTEXT
    auto found = sim::kernels().find(name);
    if (found == sim::kernels().end()) {
        return NOT_FOUND;
    }
    *function = &found->second;
    return SUCCESS;
}

SIM_API int cuFuncSetAttribute(void* function, int attribute, int value) {
    NEEDS_CONTEXT
    if (attribute != 8 || value < 0 || (size_t) value > MOST_SHARED) {
        return INVALID_VALUE;
    }
    ((sim::Kernel*) function)->sharedAllowed = (size_t) value;
    return SUCCESS;
}

SIM_API int cuLaunchKernel(
        void* function,
        unsigned gx,
        unsigned gy,
        unsigned gz,
        unsigned bx,
        unsigned by,
        unsigned bz,
        unsigned shared,
        void* stream,
        void** parameters,
        void**) {
    NEEDS_CONTEXT
    auto* kernel = (sim::Kernel*) function;
    bool grid = gx >= 1 && gy >= 1 && gz >= 1 && gx <= 0x7fffffff && gy <= 65535 && gz <= 65535;
    if (!grid || bx < 1 || by < 1 || bx * by > 1024 || bz != 1 || shared > kernel->sharedAllowed) {
        return INVALID_VALUE;
    }
    // the arguments are copied now, as CUDA does
    auto call = kernel->bind(parameters);
    return sim::enqueue(stream, [=] { sim::runKernel(gx, gy, gz, bx, by, shared, call); });
}
