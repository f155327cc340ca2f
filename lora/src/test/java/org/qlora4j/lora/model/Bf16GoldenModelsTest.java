package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;

/** Activations in bfloat16 as on a GPU, parameters and sums in fp32, the arithmetic of the reference. */
class Bf16GoldenModelsTest extends GoldenModels {
    Bf16GoldenModelsTest() {
        super(new ReferenceDevice(DType.BF16));
    }
}
