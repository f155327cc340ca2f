// A stand-in for the CUDA runtime under the real libbitsandbytes: its kernels register here by name, and a launch puts
// the host's version of the kernel (bitsandbytes.cpp) into the stream. Each launch is remembered for tests.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "bitsandbytes.h"
#include "sim.h"

namespace {

constexpr int INVALID_VALUE = 1, INVALID_DEVICE_FUNCTION = 98;

struct Dim3 {
    unsigned x, y, z;
};

struct Location {
    int type, id;
};

struct Launch {
    Dim3 grid, block;
    size_t shared;
    void* stream;
};

std::mutex lock;
/** By the address of the function that launches. */
std::map<const void*, std::string> names;
thread_local Launch configuration;
thread_local int pendingError = 0;

/** An error stays until the process ends; success does not take one away. */
int failed(int code) {
    if (code != 0) {
        pendingError = code;
    }
    return code;
}

/** "kernel<float, 0>" of "_Z6kernelIfLi0EEvPf". */
std::string readable(const char* mangled) {
    int status;
    char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
    std::string name = text == nullptr ? mangled : text;
    free(text);
    name = name.substr(0, name.find('('));
    return name.substr(0, 5) == "void " ? name.substr(5) : name;
}

}  // namespace

SIM_API void** __cudaRegisterFatBinary(void*) {
    static void* handle;
    return &handle;
}

SIM_API void __cudaRegisterFatBinaryEnd(void**) {}

SIM_API void __cudaUnregisterFatBinary(void**) {}

SIM_API void __cudaRegisterFunction(
        void**, const char* host, char*, const char* name, int, void*, void*, void*, void*, int*) {
    std::lock_guard<std::mutex> guard(lock);
    names[host] = readable(name);
}

SIM_API void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

SIM_API unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, void* stream) {
    configuration = {grid, block, shared, stream};
    return 0;
}

SIM_API int __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared, void* stream) {
    *grid = configuration.grid;
    *block = configuration.block;
    *shared = configuration.shared;
    *(void**) stream = configuration.stream;
    return 0;
}

SIM_API int __cudaGetKernel(void** kernel, const void* function) {
    *kernel = (void*) function;
    return 0;
}

SIM_API int __cudaLaunchKernel(
        const void* function, Dim3 grid, Dim3 block, void** arguments, size_t shared, void* stream) {
    std::lock_guard<std::mutex> guard(lock);
    auto name = names.find(function);
    if (name == names.end()) {
        return failed(INVALID_DEVICE_FUNCTION);
    }
    char dimensions[160];
    snprintf(
            dimensions,
            sizeof dimensions,
            "; grid %u %u %u; block %u %u %u; shared %zu; stream 0x%llx; arguments",
            grid.x,
            grid.y,
            grid.z,
            block.x,
            block.y,
            block.z,
            shared,
            (unsigned long long) (uintptr_t) stream);
    std::string text = name->second + dimensions;
    std::function<void()> work = bnb::hostKernel(name->second, arguments, text);
    sim::noteLaunch(text);
    if (!work || grid.x == 0 || block.x == 0 || block.x * block.y * block.z > 1024) {
        fprintf(stderr, "sim: no host version of %s\n", text.c_str());
        return failed(INVALID_DEVICE_FUNCTION);
    }
    return failed(sim::enqueue(stream, work));
}

SIM_API int cudaRuntimeGetVersion(int* version) {
    const char* text = getenv("SIM_RUNTIME_VERSION");
    *version = text == nullptr ? 13020 : atoi(text);
    return 0;
}

SIM_API int cudaGetDeviceCount(int* count) {
    *count = 1;
    return 0;
}

SIM_API int cudaGetDevice(int* device) {
    *device = 0;
    return 0;
}

SIM_API int cudaDeviceGetAttribute(int* value, int attribute, int device) {
    if (device < 0) {
        return failed(INVALID_VALUE);
    }
    *value = attribute == 16 ? 132 : attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return 0;
}

SIM_API int cudaFuncSetAttribute(const void*, int, int) {
    return 0;
}

SIM_API const char* cudaGetErrorString(int) {
    return "said by the simulated runtime";
}

SIM_API int cudaPeekAtLastError() {
    return pendingError;
}

SIM_API int cudaMallocManaged(void** address, size_t bytes, unsigned flags) {
    sim::noteLaunch("cudaMallocManaged " + std::to_string(bytes) + " flags " + std::to_string(flags));
    return failed(sim::allocate((uint64_t*) address, bytes, true));
}

SIM_API int cudaMemPrefetchAsync(const void* address, size_t bytes, Location location, unsigned flags, void* stream) {
    char text[160];
    snprintf(
            text,
            sizeof text,
            "cudaMemPrefetchAsync %p bytes %zu location %d %d flags %u stream 0x%llx",
            address,
            bytes,
            location.type,
            location.id,
            flags,
            (unsigned long long) (uintptr_t) stream);
    sim::noteLaunch(text);
    if (address == nullptr || bytes == 0 || location.type != 1) {
        return failed(INVALID_VALUE);
    }
    return failed(sim::enqueue(stream, [] {}));
}

SIM_API int cudaMemset(void* address, int value, size_t bytes) {
    return sim::enqueue(nullptr, [=] { memset(address, value, bytes); });
}
