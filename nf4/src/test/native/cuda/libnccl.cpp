// A stand-in for NCCL between processes that each have a GPU of sim.h: numbers go through files in a folder whose name is the group's id.
// Work runs as late as the streams let it; a message of another size than expected ends the process, where NCCL would hang or spoil memory.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "sim.h"

namespace {

constexpr int OK = 0, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6;
constexpr int SUM = 0, F32 = 7;

struct Id {
    char internal[128];
};

struct Comm {
    std::string folder;
    int rank, size;
    /** Messages given so far, to and from each rank: their numbers. */
    std::vector<uint64_t> sent, received;
};

struct Message {
    bool send;
    float* numbers;
    size_t count;
    int peer;
    uint64_t number;
};

thread_local int groups = 0;
thread_local std::vector<Message> group;
thread_local void* groupStream = nullptr;
thread_local Comm* groupComm = nullptr;
thread_local std::string lastError;

int fail(int code, const std::string& text) {
    lastError = text;
    return code;
}

std::string file(const Comm& c, int from, int to, uint64_t number) {
    return c.folder + "/" + std::to_string(from) + "." + std::to_string(to) + "." + std::to_string(number);
}

void write(const std::string& path, const void* bytes, size_t count) {
    std::ofstream out(path + ".part", std::ios::binary);
    out.write((const char*) bytes, count);
    out.close();
    rename((path + ".part").c_str(), path.c_str());
}

bool await(const std::string& path) {
    for (int tries = 0; access(path.c_str(), R_OK) != 0; tries++) {
        if (tries > 600000) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return true;
}

std::vector<float> read(const std::string& path, size_t count) {
    if (!await(path)) {
        fprintf(stderr, "nccl: nobody sends %s\n", path.c_str());
        abort();
    }
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    if ((size_t) in.tellg() != 4 * count) {
        fprintf(stderr, "nccl: %s has %ld bytes, %zu are received\n", path.c_str(), (long) in.tellg(), 4 * count);
        abort();
    }
    std::vector<float> numbers(count);
    in.seekg(0);
    in.read((char*) numbers.data(), 4 * count);
    unlink(path.c_str());
    return numbers;
}

void run(const Comm& c, const std::vector<Message>& messages) {
    for (const Message& m : messages) {
        if (m.send) {
            write(file(c, c.rank, m.peer, m.number), m.numbers, 4 * m.count);
        }
    }
    for (const Message& m : messages) {
        if (!m.send) {
            memcpy(m.numbers, read(file(c, m.peer, c.rank, m.number), m.count).data(), 4 * m.count);
        }
    }
}

int flush() {
    if (group.empty()) {
        return OK;
    }
    Comm copy = *groupComm;
    std::vector<Message> messages = std::move(group);
    group.clear();
    int code = sim::enqueue(groupStream, [copy, messages] { run(copy, messages); });
    groupComm = nullptr;
    return code == 0 ? OK : fail(INVALID_ARGUMENT, "unknown stream");
}

int add(Comm* c, bool send, void* numbers, size_t count, int type, int peer, void* stream) {
    if (c == nullptr || numbers == nullptr || type != F32 || peer < 0 || peer >= c->size) {
        return fail(INVALID_ARGUMENT, "communicator, address, type or peer");
    }
    if (groupComm != nullptr && (groupComm != c || groupStream != stream)) {
        return fail(INVALID_USAGE, "this stand-in knows one communicator and stream a group");
    }
    groupComm = c;
    groupStream = stream;
    uint64_t number = send ? c->sent[peer]++ : c->received[peer]++;
    group.push_back({send, (float*) numbers, count, peer, number});
    return groups == 0 ? flush() : OK;
}

}  // namespace

SIM_API int ncclGetVersion(int* version) {
    *version = 23203;
    return OK;
}

SIM_API int ncclGetUniqueId(Id* id) {
    memset(id, 0, sizeof(Id));
    strcpy(id->internal, "/tmp/sim-nccl-XXXXXX");
    return mkdtemp(id->internal) == nullptr ? fail(2, "mkdtemp") : OK;
}

SIM_API int ncclCommInitRank(Comm** out, int size, Id id, int rank) {
    id.internal[127] = 0;
    if (access(id.internal, W_OK) != 0 || rank < 0 || rank >= size) {
        return fail(INVALID_ARGUMENT, "id or rank");
    }
    Comm* c = new Comm{id.internal, rank, size, std::vector<uint64_t>(size), std::vector<uint64_t>(size)};
    write(c->folder + "/joined." + std::to_string(rank), "", 0);
    for (int r = 0; r < size; r++) {
        if (!await(c->folder + "/joined." + std::to_string(r))) {
            return fail(REMOTE_ERROR, "rank " + std::to_string(r) + " does not come");
        }
    }
    *out = c;
    return OK;
}

SIM_API int ncclCommDestroy(Comm* c) {
    if (getenv("NCCL_DEBUG") != nullptr) {
        uint64_t sent = 0;
        for (uint64_t n : c->sent) {
            sent += n;
        }
        fprintf(stderr, "nccl: rank %d of %d sent %lu messages\n", c->rank, c->size, (unsigned long) sent);
    }
    unlink((c->folder + "/joined." + std::to_string(c->rank)).c_str());
    // the last one succeeds
    rmdir(c->folder.c_str());
    delete c;
    return OK;
}

SIM_API int ncclCommGetAsyncError(Comm*, int* code) {
    *code = OK;
    return OK;
}

SIM_API const char* ncclGetErrorString(int code) {
    return code == OK ? "no error" : code == INVALID_ARGUMENT ? "invalid argument" : "invalid usage";
}

SIM_API const char* ncclGetLastError(Comm*) {
    return lastError.c_str();
}

SIM_API int ncclGroupStart() {
    groups++;
    return OK;
}

SIM_API int ncclGroupEnd() {
    if (groups == 0) {
        return fail(INVALID_USAGE, "no group has begun");
    }
    return --groups == 0 ? flush() : OK;
}

SIM_API int ncclSend(const void* numbers, size_t count, int type, int peer, Comm* c, void* stream) {
    return add(c, true, (void*) numbers, count, type, peer, stream);
}

SIM_API int ncclRecv(void* numbers, size_t count, int type, int peer, Comm* c, void* stream) {
    return add(c, false, numbers, count, type, peer, stream);
}

/** From the last rank to the first: another order than the tree's. */
SIM_API int ncclAllReduce(const void* from, void* to, size_t count, int type, int op, Comm* c, void* stream) {
    if (c == nullptr || from == nullptr || to == nullptr || type != F32 || op != SUM) {
        return fail(INVALID_ARGUMENT, "communicator, address, type or operation");
    }
    Comm copy = *c;
    for (int r = 0; r < c->size; r++) {
        c->sent[r]++;
        c->received[r]++;
    }
    int code = sim::enqueue(stream, [copy, from, to, count] {
        for (int r = 0; r < copy.size; r++) {
            write(file(copy, copy.rank, r, copy.sent[r]), from, 4 * count);
        }
        std::vector<float> sum(count);
        for (int r = copy.size - 1; r >= 0; r--) {
            std::vector<float> theirs = read(file(copy, r, copy.rank, copy.received[r]), count);
            for (size_t i = 0; i < count; i++) {
                sum[i] += theirs[i];
            }
        }
        memcpy(to, sum.data(), 4 * count);
    });
    return code == 0 ? OK : fail(INVALID_ARGUMENT, "unknown stream");
}
