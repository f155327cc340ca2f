package org.qlora4j.nf4;

import com.google.errorprone.annotations.MustBeClosed;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.cpu.CpuDevice;
import org.qlora4j.nf4.device.reference.ReferenceDevice;

/** Opens devices by name. */
public final class Devices {
    private Devices() {}

    /**
     * Opens a device.
     *
     * @param name {@code auto} (the CPU), {@code cpu}, or {@code reference}: plain loops in double, for checks
     * @param threads of the CPU device; 0 for as many as there are processors
     * @throws IllegalArgumentException if there is no such device; it never falls back to another one
     */
    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker")
    public static Device open(String name, int threads) {
        int count = threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
        return switch (name) {
            case "auto", "cpu" -> new CpuDevice(count);
            case "reference" -> new ReferenceDevice();
            default ->
                throw new IllegalArgumentException(
                        "device '" + name + "' is not supported; supported: auto, cpu, reference");
        };
    }
}
