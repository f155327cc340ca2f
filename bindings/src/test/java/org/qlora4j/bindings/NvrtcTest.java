package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.bindings.Messages.assertSays;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The real compiler, which needs no GPU. */
class NvrtcTest {
    private static final String SOURCE = """
            #include "factor.cuh"
            extern "C" __global__ void multiply(float* y, const float* x, long long n, float a, int b) {
                long long i = blockIdx.x * (long long) blockDim.x + threadIdx.x;
                if (i < n) {
                    y[i] = FACTOR * a * x[i] + b;
                }
            }
            """;
    private static final Map<String, String> HEADERS = Map.of("factor.cuh", "#define FACTOR 2.0f\n");

    @BeforeAll
    static void fetch() {
        NativePackages.ensure(NativePackage.NVRTC, System.err::println);
    }

    @Test
    void knowsItsVersionAndArchitectures() {
        assertEquals("13.2", Nvrtc.version());
        assertTrue(Nvrtc.architectures().containsAll(List.of(80, 86, 89, 90, 100, 120)), Nvrtc.architectures() + "");
    }

    @ParameterizedTest
    @ValueSource(ints = {80, 86, 89, 90, 100, 120})
    void compiles(int architecture) {
        Nvrtc.Program program = Nvrtc.compile(
                SOURCE,
                "multiply.cu",
                HEADERS,
                List.of("--gpu-architecture=sm_" + architecture, "--std=c++17", "--ptxas-options=-v"));
        assertEquals("\u007fELF", new String(program.cubin(), 0, 4, java.nio.charset.StandardCharsets.ISO_8859_1));
        assertTrue(program.ptx().contains(".target sm_" + architecture), program.ptx());
        assertEquals(
                List.of("u64", "u64", "u64", "f32", "u32"),
                program.ptx()
                        .lines()
                        .filter(l -> l.contains(".param .") && l.contains("multiply_param_"))
                        .filter(l -> !l.contains("ld.param"))
                        .map(l -> l.replaceAll(".*\\.param \\.(?:align \\d+ \\.)?(\\w+).*", "$1"))
                        .toList());
        assertTrue(program.log().contains("0 bytes spill stores, 0 bytes spill loads"), program.log());
        assertTrue(program.log().contains("registers"), program.log());
    }

    @Test
    void wrongSourceIsSaidWithItsPlace() {
        NativeException e = assertThrows(
                NativeException.class,
                () -> Nvrtc.compile("__global__ void f() { int x = nothing; }", "wrong.cu", Map.of(), List.of()));
        assertSays(e, "wrong.cu(1)", "identifier \"nothing\" is undefined");
        assertEquals("nvrtcCompileProgram", e.function());
    }

    @Test
    void wrongOptionsAndMissingHeadersAreSaid() {
        assertSays(
                assertThrows(
                        NativeException.class,
                        () -> Nvrtc.compile(SOURCE, "a.cu", HEADERS, List.of("--gpu-architecture=sm_12345"))),
                "invalid value for --gpu-architecture");
        assertSays(
                assertThrows(NativeException.class, () -> Nvrtc.compile(SOURCE, "a.cu", Map.of(), List.of())),
                "factor.cuh");
    }
}
