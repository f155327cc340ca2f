// What libbitsandbytes imports of cuBLASLt and of cuBLAS beyond libcublas.cpp, for its LLM.int8, which this project does
// not call on a GPU: every one fails.
#include "sim.h"

#define FAILS(name) \
    SIM_API int name() { \
        return 1; \
    }

FAILS(cublasLtMatmul)
FAILS(cublasLtMatmulDescCreate)
FAILS(cublasLtMatmulDescDestroy)
FAILS(cublasLtMatmulDescSetAttribute)
FAILS(cublasLtMatrixLayoutCreate)
FAILS(cublasLtMatrixLayoutDestroy)
