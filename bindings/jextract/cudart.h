/*
 * The functions of the CUDA runtime this project calls, for libbitsandbytes' sake: it ends the process over an error that is pending there.
 * Declared without the runtime's own headers, which need a C++ compiler's.
 */
int cudaGetDeviceCount(int *count);
int cudaPeekAtLastError(void);
int cudaRuntimeGetVersion(int *runtimeVersion);
const char *cudaGetErrorString(int error);
