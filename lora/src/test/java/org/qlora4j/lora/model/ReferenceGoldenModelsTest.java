package org.qlora4j.lora.model;

import org.qlora4j.nf4.Devices;

class ReferenceGoldenModelsTest extends GoldenModels {
    ReferenceGoldenModelsTest() {
        super(Devices.open("reference", 1));
    }
}
