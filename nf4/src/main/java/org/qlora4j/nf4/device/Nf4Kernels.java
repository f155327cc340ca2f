package org.qlora4j.nf4.device;

import java.util.Locale;

/**
 * Who turns 4-bit codes into fp32 for the CPU's products. The values are the same (NF4 to the bit; FP4 has two zeros,
 * of which libbitsandbytes' AVX-512 code gives one).
 */
public enum Nf4Kernels {
    /** {@link #VECTOR} where the JVM has the Vector API, else {@link #BITSANDBYTES} if it can be opened. */
    AUTO,
    /** The project's own loops: panels in the cache, 3.6 to 4.3 times as fast as the library's there on AVX2. */
    VECTOR,
    /** libbitsandbytes' {@code cdequantize_blockwise_cpu_nf4_fp32} and its fp4 twin, on each worker's share. */
    BITSANDBYTES;

    /**
     * Reads the value of {@code --nf4_kernels}.
     *
     * @throws IllegalArgumentException for any other text
     */
    public static Nf4Kernels of(String name) {
        for (Nf4Kernels kernels : values()) {
            if (kernels.toString().equals(name)) {
                return kernels;
            }
        }
        throw new IllegalArgumentException("nf4_kernels must be auto, vector or bitsandbytes, got '" + name + "'");
    }

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}
