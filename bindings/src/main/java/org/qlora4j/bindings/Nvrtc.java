package org.qlora4j.bindings;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import org.qlora4j.bindings.generated.nvrtc.nvrtc_h;

/** NVIDIA's compiler of CUDA C++; needs neither a GPU nor its driver. Thread-safe. */
@SuppressWarnings("restricted")
public final class Nvrtc {
    private static final String LIBRARY = "NVRTC";

    private Nvrtc() {}

    /**
     * A compiled program.
     *
     * @param cubin machine code for one architecture
     * @param ptx the same before the last step, as text
     * @param log the compiler's remarks, with {@code --ptxas-options=-v} registers and spills of each kernel
     */
    public record Program(byte[] cubin, String ptx, String log) {}

    /**
     * Opens the library alone, wherever it is found, for machines without a GPU.
     *
     * @throws NativeException if it is not found; says what was tried
     */
    public static void require() {
        CudaNatives.requireNvrtc();
    }

    /** E.g. {@code 13.2}. */
    public static String version() {
        require();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_INT, 2);
            check("nvrtcVersion", nvrtc_h.nvrtcVersion(out, out.asSlice(4)));
            return out.get(JAVA_INT, 0) + "." + out.get(JAVA_INT, 4);
        }
    }

    /** The architectures it compiles for, e.g. 90 for sm_90. */
    public static List<Integer> architectures() {
        require();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment count = arena.allocate(JAVA_INT);
            check("nvrtcGetNumSupportedArchs", nvrtc_h.nvrtcGetNumSupportedArchs(count));
            MemorySegment all = arena.allocate(JAVA_INT, count.get(JAVA_INT, 0));
            check("nvrtcGetSupportedArchs", nvrtc_h.nvrtcGetSupportedArchs(all));
            return java.util.Arrays.stream(all.toArray(JAVA_INT)).boxed().toList();
        }
    }

    /**
     * Compiles.
     *
     * @param name of the source, for messages
     * @param headers what {@code #include} finds, by name
     * @param options e.g. {@code --gpu-architecture=sm_90}
     * @throws NativeException with the compiler's messages
     */
    public static Program compile(String source, String name, Map<String, String> headers, List<String> options) {
        require();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment program = arena.allocate(ADDRESS);
            List<String> names = List.copyOf(headers.keySet());
            check(
                    "nvrtcCreateProgram",
                    nvrtc_h.nvrtcCreateProgram(
                            program,
                            arena.allocateFrom(source),
                            arena.allocateFrom(name),
                            names.size(),
                            strings(arena, names.stream().map(headers::get).toList()),
                            strings(arena, names)));
            try {
                return compile(program.get(ADDRESS, 0), name, options, arena);
            } finally {
                check("nvrtcDestroyProgram", nvrtc_h.nvrtcDestroyProgram(program));
            }
        }
    }

    private static Program compile(MemorySegment program, String name, List<String> options, Arena arena) {
        int status = nvrtc_h.nvrtcCompileProgram(program, options.size(), strings(arena, options));
        String log = text(bytes(
                arena,
                "Log",
                out -> nvrtc_h.nvrtcGetProgramLogSize(program, out),
                out -> nvrtc_h.nvrtcGetProgramLog(program, out)));
        if (status != 0) {
            throw new NativeException(LIBRARY, "nvrtcCompileProgram", status, "of " + name + ":\n" + log);
        }
        byte[] cubin = bytes(
                arena,
                "CUBIN",
                out -> nvrtc_h.nvrtcGetCUBINSize(program, out),
                out -> nvrtc_h.nvrtcGetCUBIN(program, out));
        byte[] ptx = bytes(
                arena, "PTX", out -> nvrtc_h.nvrtcGetPTXSize(program, out), out -> nvrtc_h.nvrtcGetPTX(program, out));
        return new Program(cubin, text(ptx), log);
    }

    private interface Call {
        int with(MemorySegment out);
    }

    private static byte[] bytes(Arena arena, String what, Call size, Call content) {
        MemorySegment count = arena.allocate(JAVA_LONG);
        check("nvrtcGet" + what + "Size", size.with(count));
        MemorySegment bytes = arena.allocate(Math.max(1, count.get(JAVA_LONG, 0)));
        check("nvrtcGet" + what, content.with(bytes));
        return bytes.toArray(JAVA_BYTE);
    }

    /** Without the zero at its end. */
    private static String text(byte[] bytes) {
        return new String(bytes, 0, Math.max(0, bytes.length - 1), java.nio.charset.StandardCharsets.UTF_8);
    }

    private static MemorySegment strings(Arena arena, List<String> values) {
        MemorySegment array = arena.allocate(ADDRESS, Math.max(1, values.size()));
        for (int i = 0; i < values.size(); i++) {
            array.setAtIndex(ADDRESS, i, arena.allocateFrom(values.get(i)));
        }
        return array;
    }

    private static void check(String function, int status) {
        if (status != 0) {
            throw new NativeException(
                    LIBRARY,
                    function,
                    status,
                    nvrtc_h.nvrtcGetErrorString(status)
                            .reinterpret(Long.MAX_VALUE)
                            .getString(0));
        }
    }
}
