// The GPU that does not exist: memory the host cannot reach, streams that run as late as they may. libcuda, libcublas and
// libcudart stand on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#define SIM_API extern "C" __attribute__((visibility("default")))

namespace sim {

/** CUDA's codes. */
enum Error {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
};

/** A kernel that the host can run: its name, and what makes a call of an array of argument addresses. */
struct Kernel {
    std::string name;
    std::function<std::function<void()>(void**)> bind;
    int parameters;
    size_t sharedAllowed;
};

std::map<std::string, Kernel>& kernels();

/** Puts work at the end of a stream. @param stream 0 is the legacy one */
__attribute__((visibility("default"))) int enqueue(void* stream, std::function<void()> work);

/** Runs what the stream was given, and what that waits for. */
__attribute__((visibility("default"))) int synchronize(void* stream);

__attribute__((visibility("default"))) int allocate(uint64_t* address, size_t bytes, bool managed);

/** Keeps the text of a launch for tests. */
__attribute__((visibility("default"))) void noteLaunch(const std::string& text);

/** Runs a kernel on the host; only within work of a stream. */
__attribute__((visibility("default"))) void runKernel(
        unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, size_t shared, const std::function<void()>& kernel);

}  // namespace sim
