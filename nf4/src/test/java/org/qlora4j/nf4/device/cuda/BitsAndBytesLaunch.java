package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.List;

/** A launch of libbitsandbytes as it arrived at the runtime, its arguments in the kernel's order. */
record BitsAndBytesLaunch(
        String kernel, String grid, String block, String shared, String stream, List<String> arguments) {
    /** An address, which is written in hexadecimal. */
    record Pointer(long address) {}

    static Pointer at(long address) {
        return new Pointer(address);
    }

    /** On a real GPU a launch that says nothing: nobody stands between library and driver there. */
    static BitsAndBytesLaunch last() {
        if (CudaSimulator.REAL) {
            return new BitsAndBytesLaunch("", "", "", "", "", List.of());
        }
        String[] parts = CudaSimulator.lastLaunch().split("; ", -1);
        assertEquals(6, parts.length, Arrays.toString(parts));
        return new BitsAndBytesLaunch(
                parts[0],
                value("grid", parts[1]),
                value("block", parts[2]),
                value("shared", parts[3]),
                value("stream", parts[4]),
                List.of(value("arguments", parts[5]).split(" ")));
    }

    private static String value(String name, String part) {
        assertEquals(name, part.substring(0, name.length()));
        return part.substring(name.length() + 1);
    }

    /**
     * Holds the launch against what is meant.
     *
     * @param stream 0 for the legacy one
     * @param expected one of {@link Pointer}, Integer, Float and Boolean for each parameter of the kernel
     */
    void check(String kernel, String grid, String block, long stream, Object... expected) {
        if (CudaSimulator.REAL) {
            return;
        }
        assertEquals(kernel, this.kernel);
        assertEquals(grid, this.grid, kernel + " grid");
        assertEquals(block, this.block, kernel + " block");
        assertEquals("0x%x".formatted(stream), this.stream, kernel + " stream");
        assertEquals(expected.length, arguments.size(), kernel + " arguments");
        for (int i = 0; i < expected.length; i++) {
            String what = kernel + " argument " + i;
            String got = arguments.get(i);
            switch (expected[i]) {
                case Pointer p -> assertEquals("0x%x".formatted(p.address), got, what);
                case Float f -> assertEquals(f, Float.parseFloat(got), what);
                case Boolean b -> assertEquals(b ? "1" : "0", got, what);
                default -> assertEquals(expected[i].toString(), got, what);
            }
        }
    }
}
