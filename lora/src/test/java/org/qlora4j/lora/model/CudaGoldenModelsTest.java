package org.qlora4j.lora.model;

/** The whole GPU path on a simulated GPU: bf16 kernels, cuBLAS' and libbitsandbytes' calls, streams. */
class CudaGoldenModelsTest extends GoldenModels {
    CudaGoldenModelsTest() {
        super(SimulatedGpu.open());
    }
}
