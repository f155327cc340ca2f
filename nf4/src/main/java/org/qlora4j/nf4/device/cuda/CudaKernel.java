package org.qlora4j.nf4.device.cuda;

import java.util.Locale;

/**
 * The launch table: every kernel with the unit it is compiled in and its parameters. A test holds it against what NVRTC
 * makes of the units.
 *
 * <p>A signature has one letter for each parameter: P a pointer, I a 32-bit and L a 64-bit integer, F an fp32. The C
 * name is the constant's in small letters.
 */
enum CudaKernel {
    // norm.cu
    RMS_NORM("norm.cu", "PIPPIPIIF"),
    RMS_NORM_BACKWARD("norm.cu", "PIPIPIPPIIF");

    private final String unit;
    private final String signature;

    CudaKernel(String unit, String signature) {
        this.unit = unit;
        this.signature = signature;
    }

    /** The name of its {@code extern "C"} function. */
    String functionName() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** The resource beside this class that holds it. */
    String unit() {
        return unit;
    }

    /** One letter a parameter. */
    String signature() {
        return signature;
    }
}
