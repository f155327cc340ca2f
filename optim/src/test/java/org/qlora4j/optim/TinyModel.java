package org.qlora4j.optim;

import java.nio.file.Path;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;

/** The golden Llama: two layers of random weights, quantized to NF4 with double quantization. */
public final class TinyModel {
    private TinyModel() {}

    /** The CPU with two threads. */
    @SuppressWarnings("MustBeClosedChecker") // the caller closes
    public static Device openDevice() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        return Devices.open("cpu", 2);
    }

    public static Transformer load(Device device) {
        try (ModelSource source =
                ModelSource.open(Path.of(System.getProperty("qlora4j.golden"), "models/llama/base"))) {
            return ModelLoader.load(
                    source, device, new ModelLoader.Options(DType.F32, Quantization.NF4_DOUBLE, 2), (done, all) -> {});
        }
    }
}
