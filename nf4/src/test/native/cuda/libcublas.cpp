// A stand-in for cuBLAS: column-major products with fp32 sums, on the GPU of sim.h.
#include <vector>

#include "bf16.h"
#include "sim.h"

namespace {

constexpr int NOT_INITIALIZED = 1, INVALID = 7;
constexpr int F32 = 0, F16 = 2, BF16 = 14;

struct Handle {
    void* stream;
};

float widen(const void* base, int type, size_t i) {
    switch (type) {
        case F32: return ((const float*) base)[i];
        case F16: return (float) ((const _Float16*) base)[i];
        default: return load(((const Bf16*) base)[i]);
    }
}

void narrow(void* base, int type, size_t i, float value) {
    switch (type) {
        case F32: ((float*) base)[i] = value; break;
        case F16: ((_Float16*) base)[i] = (_Float16) value; break;
        default: store((Bf16*) base + i, value);
    }
}

bool known(int type) {
    return type == F32 || type == F16 || type == BF16;
}

/** op(matrix) [rows, k] row after row in fp32. @param rowStride from one row of op(matrix) to the next */
std::vector<float> rowsOf(const void* base, int type, int rows, int k, size_t rowStride, size_t kStride) {
    std::vector<float> values((size_t) rows * k);
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < k; i++) {
            values[(size_t) r * k + i] = widen(base, type, r * rowStride + i * kStride);
        }
    }
    return values;
}

/** 16 partial sums, which the compiler keeps in vector registers. */
float dot(const float* a, const float* b, int k) {
    float sums[16] = {};
    int i = 0;
    for (; i + 16 <= k; i += 16) {
        for (int l = 0; l < 16; l++) {
            sums[l] += a[i + l] * b[i + l];
        }
    }
    for (; i < k; i++) {
        sums[i & 15] += a[i] * b[i];
    }
    float sum = 0;
    for (float s : sums) {
        sum += s;
    }
    return sum;
}

}  // namespace

SIM_API int cublasCreate_v2(void** handle) {
    *handle = new Handle{nullptr};
    return 0;
}

SIM_API int cublasDestroy_v2(void* handle) {
    delete (Handle*) handle;
    return 0;
}

SIM_API int cublasGetVersion_v2(void*, int* version) {
    *version = 130400;
    return 0;
}

SIM_API int cublasSetStream_v2(void* handle, void* stream) {
    ((Handle*) handle)->stream = stream;
    return 0;
}

SIM_API int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
    return handle == nullptr || (bytes > 0 && workspace == nullptr) ? INVALID : 0;
}

SIM_API int cublasSetMathMode(void* handle, int) {
    return handle == nullptr ? NOT_INITIALIZED : 0;
}

SIM_API const char* cublasGetStatusName(int status) {
    return status == INVALID ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_NOT_INITIALIZED";
}

SIM_API int cublasGemmEx(
        void* handle,
        int transA,
        int transB,
        int m,
        int n,
        int k,
        const void* alpha,
        const void* a,
        int aType,
        int lda,
        const void* b,
        int bType,
        int ldb,
        const void* beta,
        void* c,
        int cType,
        int ldc,
        int computeType,
        int) {
    if (handle == nullptr) {
        return NOT_INITIALIZED;
    }
    bool types = known(aType) && aType == bType && (cType == aType || cType == F32) && computeType == 68;
    if (!types || m < 1 || n < 1 || k < 1 || lda < (transA ? k : m) || ldb < (transB ? n : k) || ldc < m
            || a == nullptr || b == nullptr || c == nullptr) {
        return INVALID;
    }
    float al = *(const float*) alpha;
    float be = *(const float*) beta;
    return sim::enqueue(((Handle*) handle)->stream, [=] {
        std::vector<float> x = transA ? rowsOf(a, aType, m, k, (size_t) lda, 1) : rowsOf(a, aType, m, k, 1, (size_t) lda);
        std::vector<float> y = transB ? rowsOf(b, bType, n, k, 1, (size_t) ldb) : rowsOf(b, bType, n, k, (size_t) ldb, 1);
        for (int j = 0; j < n; j++) {
            for (int i = 0; i < m; i++) {
                size_t at = (size_t) j * ldc + i;
                float sum = al * dot(&x[(size_t) i * k], &y[(size_t) j * k], k);
                // with beta 0 the old value is not read: it may be NaN
                narrow(c, cType, at, be == 0 ? sum : sum + be * widen(c, cType, at));
            }
        }
    });
}

// Imported by libbitsandbytes for functions this project does not call.
SIM_API int cublasGemmStridedBatchedEx() {
    return NOT_INITIALIZED;
}

SIM_API int cublasGetMathMode() {
    return NOT_INITIALIZED;
}
