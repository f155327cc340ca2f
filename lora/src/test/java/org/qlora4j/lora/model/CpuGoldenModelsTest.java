package org.qlora4j.lora.model;

import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;

class CpuGoldenModelsTest extends GoldenModels {
    CpuGoldenModelsTest() {
        super(open());
    }

    private static Device open() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        return Devices.open("cpu", 2);
    }
}
