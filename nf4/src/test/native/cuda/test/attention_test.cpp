// The attention kernels, right, and without one of their barriers or waits for copies at a time.
//
//     attention_test            lists the cases, one a line: forward, keys, queries, decode, and each of them without
//                               one barrier (forward@attention.cu:43) or one wait (forward~attention.cu:42)
//     attention_test CASE       ends with 0 if all results are right whatever the order of threads, else with 1
#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common.cuh"

namespace {

// Every wait of the kernels asks first whether it is the one that is left out.
std::string skippedWait;
std::set<std::string> waits;

bool isWaiting(const char* path, int line) {
    const char* slash = strrchr(path, '/');
    std::string name = std::string(slash == nullptr ? path : slash + 1) + ":" + std::to_string(line);
    waits.insert(name);
    return name != skippedWait;
}

#define waitCopies if (isWaiting(__FILE__, __LINE__)) waitCopies
#include "attention.cu"
#include "attention_decode.cu"

using Floats = std::vector<float>;
using Bf16s = std::vector<bf16>;

constexpr int GROUP = 2, KV_HEADS = 2, HEADS = GROUP * KV_HEADS, SEEDS = 3;

/** One shape's inputs and, in double, its results. */
struct Case {
    int headDim, window, queries, keys, sequences;
    std::vector<int> queryOffsets, keyOffsets;
    float scale;
    Bf16s q, k, v, dOut;
    std::vector<double> out, lse, delta, dq, dk, dv;
    u32 state = 1;

    Case(int size, int seen, std::vector<int> ofQueries, std::vector<int> ofKeys)
            : headDim(size), window(seen), queryOffsets(ofQueries), keyOffsets(ofKeys) {
        queries = queryOffsets.back();
        keys = keyOffsets.back();
        sequences = (int) queryOffsets.size() - 1;
        scale = 1 / sqrtf(headDim);
        q = random(queries * HEADS);
        k = random(keys * KV_HEADS);
        v = random(keys * KV_HEADS);
        dOut = random(queries * HEADS);
        out.resize(q.size());
        dq.resize(q.size());
        dk.resize(k.size());
        dv.resize(k.size());
        lse.resize(HEADS * queries);
        delta.resize(HEADS * queries);
        for (int s = 0; s < sequences; s++) {
            for (int row = queryOffsets[s]; row < queryOffsets[s + 1]; row++) {
                for (int head = 0; head < HEADS; head++) {
                    int end = keyOffsets[s + 1] - (queryOffsets[s + 1] - 1 - row);
                    compute(row, head, std::max(keyOffsets[s], end - window), end);
                }
            }
        }
    }

    Bf16s random(int heads) {
        Bf16s values(heads * headDim);
        for (bf16& value : values) {
            state = state * 1664525u + 1013904223u;
            value = toBf16((float) (state >> 8 & 0xffff) / 16384.f - 2.f);
        }
        return values;
    }

    /** Element d of a head in row `row` of a matrix. */
    size_t at(int row, int heads, int head, int d) const {
        return ((size_t) row * heads + head) * headDim + d;
    }

    double dot(const Bf16s& a, int row, int head, const Bf16s& b, int key) const {
        double sum = 0;
        for (int d = 0; d < headDim; d++) {
            sum += (double) toFloat(a[at(row, HEADS, head, d)]) * toFloat(b[at(key, KV_HEADS, head / GROUP, d)]);
        }
        return sum;
    }

    void compute(int row, int head, int first, int end) {
        std::vector<double> p, dp;
        double sum = 0;
        for (int key = first; key < end; key++) {
            p.push_back(exp(scale * dot(q, row, head, k, key))); // scores are small
            dp.push_back(dot(dOut, row, head, v, key));
            sum += p.back();
        }
        lse[head * queries + row] = log(sum);
        double& rowDelta = delta[head * queries + row];
        for (int j = 0; j < end - first; j++) {
            p[j] /= sum;
            rowDelta += p[j] * dp[j];
        }
        for (int j = 0; j < end - first; j++) {
            double ds = p[j] * (dp[j] - rowDelta) * scale;
            for (int d = 0; d < headDim; d++) {
                size_t mine = at(row, HEADS, head, d), seen = at(first + j, KV_HEADS, head / GROUP, d);
                out[mine] += p[j] * toFloat(v[seen]);
                dq[mine] += ds * toFloat(k[seen]);
                dk[seen] += ds * toFloat(q[mine]);
                dv[seen] += p[j] * toFloat(dOut[mine]);
            }
        }
    }
};

/** Whether no element is off by more than a 20th of their root mean square; one that is not a number is. */
bool close(const Bf16s& got, const std::vector<double>& expected) {
    double squares = 0;
    for (double e : expected) {
        squares += e * e;
    }
    for (size_t i = 0; i < expected.size(); i++) {
        if (!(fabs(toFloat(got[i]) - expected[i]) <= 0.05 * sqrt(squares / expected.size()))) {
            return false;
        }
    }
    return true;
}

Floats floats(const std::vector<double>& values) {
    return Floats(values.begin(), values.end());
}

#define INPUTS \
    c.q.data(), HEADS * c.headDim, c.k.data(), KV_HEADS * c.headDim, c.v.data(), KV_HEADS * c.headDim, \
            c.queryOffsets.data(), c.keyOffsets.data(), c.sequences, GROUP, c.headDim, c.window, c.scale, 0.f
#define UPSTREAM c.dOut.data(), HEADS * c.headDim, lse.data(), c.queries, delta.data(), c.queries

bool forward(const Case& c, int seed) {
    Bf16s out(c.q.size(), 0x7fff);
    Floats lse(c.lse.size(), NAN);
    auto kernel = c.headDim <= 64 ? attention_forward_64 : attention_forward_128;
    int row = 2 * (c.headDim + 8);
    shim::launch(dim3(c.queries / 64 + c.sequences, HEADS), 128, row * 192, seed,
                 [&] { kernel(out.data(), HEADS * c.headDim, lse.data(), c.queries, INPUTS); });
    return close(out, c.out);
}

bool keys(const Case& c, int seed) {
    Bf16s dk(c.k.size(), 0x7fff), dv(c.k.size(), 0x7fff);
    Floats lse = floats(c.lse), delta = floats(c.delta);
    auto kernel = c.headDim <= 64 ? attention_backward_keys_64 : attention_backward_keys_128;
    int row = 2 * (c.headDim + 8), passing = c.headDim <= 64 ? 64 : 32, stride = KV_HEADS * c.headDim;
    shim::launch(dim3(c.keys / 64 + c.sequences, KV_HEADS), 128, row * (128 + 4 * passing) + 16 * passing, seed,
                 [&] { kernel(dk.data(), stride, dv.data(), stride, UPSTREAM, INPUTS); });
    return close(dk, c.dk) && close(dv, c.dv);
}

bool queries(const Case& c, int seed) {
    Bf16s dq(c.q.size(), 0x7fff);
    Floats lse = floats(c.lse), delta = floats(c.delta);
    auto kernel = c.headDim <= 64 ? attention_backward_queries_64 : attention_backward_queries_128;
    int row = 2 * (c.headDim + 8), passing = c.headDim <= 64 ? 64 : 32;
    shim::launch(dim3(c.queries / 64 + c.sequences, HEADS), 128, row * (128 + 4 * passing), seed,
                 [&] { kernel(dq.data(), HEADS * c.headDim, UPSTREAM, INPUTS); });
    return close(dq, c.dq);
}

bool decode(const Case& c, int seed) {
    const int splits = 3, splitKeys = 128;
    Bf16s out(c.q.size(), 0x7fff);
    Floats lse(c.lse.size(), NAN), partial(splits * c.q.size(), NAN), partialLse(splits * c.lse.size(), NAN);
    auto kernel = c.headDim <= 64 ? attention_decode_64 : attention_decode_128;
    shim::launch(dim3(splits * c.sequences, KV_HEADS), 128, 2 * (c.headDim + 8) * (16 + 16 * 16), seed,
                 [&] { kernel(partial.data(), partialLse.data(), c.queries, HEADS, splits, splitKeys, INPUTS); });
    shim::launch(dim3(c.queries, HEADS), 128, 0, seed, [&] {
        attention_decode_merge(out.data(), HEADS * c.headDim, lse.data(), c.queries, partial.data(),
                               partialLse.data(), splits, c.headDim);
    });
    return close(out, c.out);
}

using Run = bool (*)(const Case&, int);
const std::map<std::string, Run> RUNS = {{"forward", forward}, {"keys", keys}, {"queries", queries}, {"decode", decode}};

bool always(const std::string& name) {
    std::vector<Case> cases;
    for (int headDim : {64, 128}) {
        if (name == "decode") {
            cases.push_back({headDim, 1 << 30, {0, 1, 4}, {0, 300, 423}});
        } else {
            cases.push_back({headDim, 1 << 30, {0, 65, 196}, {0, 65, 196}});
            // no query sees the first keys
            cases.push_back({headDim, 20, {0, 1, 70}, {0, 150, 300}});
        }
    }
    for (const Case& c : cases) {
        for (int seed = 0; seed < SEEDS; seed++) {
            if (!RUNS.at(name)(c, seed)) {
                return false;
            }
        }
    }
    return true;
}

void list() {
    std::set<std::string> known;
    for (auto& run : RUNS) {
        always(run.first);
        puts(run.first.c_str());
        std::string barriers = shim::barriers();
        for (size_t end; (end = barriers.find('\n')) != std::string::npos; barriers = barriers.substr(end + 1)) {
            if (known.insert(barriers.substr(0, end)).second) {
                printf("%s@%s\n", run.first.c_str(), barriers.substr(0, end).c_str());
            }
        }
        for (const std::string& wait : waits) {
            printf("%s~%s\n", run.first.c_str(), wait.c_str());
        }
        waits.clear();
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        list();
        return 0;
    }
    std::string name = arguments[1], run = name.substr(0, name.find_first_of("@~"));
    if (run.size() < name.size()) {
        std::string place = name.substr(run.size() + 1);
        if (name[run.size()] == '@') {
            shim::skipBarrier(place.c_str());
        } else {
            skippedWait = place;
        }
    }
    bool right = always(run);
    fprintf(stderr, "%s\n", right ? "right result" : "wrong result");
    return right ? 0 : 1;
}
