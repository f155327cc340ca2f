package org.qlora4j.samples.bench;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Locale;
import org.qlora4j.bindings.CudaDriver;

/**
 * What a GPU can do at best, from what its driver says of it.
 *
 * @param architecture 10 · compute capability
 * @param clock the highest one, in Hz
 * @param memoryClock in Hz; 0 where the driver does not say
 * @param busBits width of the memory's bus
 */
record GpuCard(String name, int architecture, int multiprocessors, double clock, double memoryClock, int busBits) {
    static GpuCard of(int ordinal) {
        int device = CudaDriver.device(ordinal);
        return new GpuCard(
                CudaDriver.name(device),
                10 * CudaDriver.attribute(device, CudaDriver.COMPUTE_CAPABILITY_MAJOR)
                        + CudaDriver.attribute(device, CudaDriver.COMPUTE_CAPABILITY_MINOR),
                CudaDriver.attribute(device, CudaDriver.MULTIPROCESSOR_COUNT),
                1e3 * CudaDriver.attribute(device, CudaDriver.CLOCK_RATE),
                1e3 * CudaDriver.attribute(device, CudaDriver.MEMORY_CLOCK_RATE),
                CudaDriver.attribute(device, CudaDriver.GLOBAL_MEMORY_BUS_WIDTH));
    }

    /**
     * Operations of a multiprocessor a clock, bf16 with fp32 sums, dense; a multiplication with its addition is two.
     * NaN for a card that is not known.
     *
     * @see <a href="https://docs.nvidia.com/cuda/cuda-c-programming-guide/">NVIDIA's white papers of each
     *     architecture</a>; GeForce cards add to fp32 at half the rate of the others
     */
    double bf16PerClock() {
        double rate = switch (architecture) {
            case 80 -> 2048;
            case 86, 87, 89, 120, 121 -> 1024;
            case 90 -> 4096;
            case 100, 103 -> 8192;
            default -> Double.NaN;
        };
        return name.contains("GeForce") ? rate / 2 : rate;
    }

    /** Operations a second in bf16. */
    double flops() {
        return multiprocessors * clock * bf16PerClock();
    }

    /** Bytes of memory traffic a second. */
    double bandwidth() {
        return memoryClock == 0 ? Double.NaN : memoryClock * 2 * busBits / 8;
    }

    /**
     * The time no program can beat: the longer of what the arithmetic and the memory traffic take, in seconds; NaN if
     * one of them is needed and not known.
     */
    double seconds(double flops, double bytes) {
        return Math.max(flops == 0 ? 0 : flops / flops(), bytes == 0 ? 0 : bytes / bandwidth());
    }

    ObjectNode json() {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.put("name", name).put("compute_capability", architecture / 10.0).put("multiprocessors", multiprocessors);
        json.put("clock_mhz", clock / 1e6)
                .put("memory_clock_mhz", memoryClock / 1e6)
                .put("memory_bus_bits", busBits);
        return json.put("tflops_bf16", flops() / 1e12).put("gb_per_second", bandwidth() / 1e9);
    }

    @Override
    public String toString() {
        return String.format(
                Locale.ROOT,
                "%s: %d multiprocessors at %.0f MHz x %.0f operations a clock = %.1f TFLOP/s in bf16;"
                        + " %d bits at 2 x %.0f MHz = %.0f GB/s",
                name,
                multiprocessors,
                clock / 1e6,
                bf16PerClock(),
                flops() / 1e12,
                busBits,
                memoryClock / 1e6,
                bandwidth() / 1e9);
    }
}
