/*
 * The oneDNN 3.13 functions this project calls. Those of oneDNN's own header are declared again, so that the compiler finds a
 * disagreement and GeneratedBindingsTest has a text to compare the generated classes with.
 */
#include <stdint.h>
#include <oneapi/dnnl/dnnl.h>

const dnnl_version_t *dnnl_version(void);
dnnl_cpu_isa_t dnnl_get_effective_cpu_isa(void);
dnnl_status_t dnnl_sgemm(char transa, char transb, dnnl_dim_t M, dnnl_dim_t N, dnnl_dim_t K, float alpha, const float *A, dnnl_dim_t lda, const float *B, dnnl_dim_t ldb, float beta, float *C, dnnl_dim_t ldc);

/* Exported by libdnnl.so.3, but declared in no public header (src/cpu/gemm/gemm.cpp); bf16 values are passed as their 16 bits. */
dnnl_status_t dnnl_gemm_bf16bf16f32(char transa, char transb, dnnl_dim_t M, dnnl_dim_t N, dnnl_dim_t K, float alpha, const uint16_t *A, dnnl_dim_t lda, const uint16_t *B, dnnl_dim_t ldb, float beta, float *C, dnnl_dim_t ldc);
