package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * CUDA's libraries as far as this module's tests need them: they can be opened, know versions, and remember which
 * function of libbitsandbytes was called. One library serves under all names.
 */
final class CudaStandIns {
    private static final String SOURCE = """
            #include <cstdlib>
            static const char* arrived = "";
            static int pending = 0;
            static int setting(const char* name, int otherwise) {
                const char* text = getenv(name);
                return text ? atoi(text) : otherwise;
            }
            extern "C" {
            int cuInit(unsigned) { return setting("STANDIN_INIT", 0); }
            int cuDriverGetVersion(int* version) { *version = setting("STANDIN_DRIVER", 13020); return 0; }
            int cuDeviceGetCount(int* count) { *count = 1; return 0; }
            int cuLaunchKernel() { return 0; }
            int cuMemPrefetchAsync_v2() { return 0; }
            int cuMemAllocManaged(unsigned long* address, size_t bytes, unsigned) {
                *address = 4096;
                return bytes > 1 << 20 ? 2 : 0;
            }
            int cuMemFree_v2(unsigned long) { return 0; }
            int cuGetErrorName(int, const char** text) { *text = "CUDA_ERROR_NO_DEVICE"; return 0; }
            int cuGetErrorString(int, const char** text) { *text = "no GPU, says the stand-in"; return 0; }
            int cudaRuntimeGetVersion(int* version) { *version = setting("STANDIN_RUNTIME", 13020); return 0; }
            int cudaGetDeviceCount(int* count) { *count = 1; return setting("STANDIN_RUNTIME_ERROR", 0); }
            int cudaPeekAtLastError() { return pending; }
            const char* cudaGetErrorString(int) { return "as the stand-in says"; }
            int cublasLtMatmul() { return 0; }
            int cublasGemmEx() { return 0; }
            int nvrtcCompileProgram() { return 0; }
            void standin_pending(int code) { pending = code; }
            const char* standin_arrived() { const char* last = arrived; arrived = ""; return last; }
            """;

    private CudaStandIns() {}

    /** Builds the library, or skips the test where there is no g++, but not in CI. */
    static Path build(Path folder) throws IOException, InterruptedException {
        boolean compiler = Stream.of(System.getenv("PATH").split(File.pathSeparator))
                .anyMatch(p -> Files.isExecutable(Path.of(p, "g++")));
        if (System.getenv("CI") == null) {
            assumeTrue(compiler, "stand-ins are built with g++, which is not here: apt-get install g++");
        }
        String functions = bitsandbytes().stream()
                .map(f -> "long %s() { arrived = \"%s\"; return 4096; }\n".formatted(f, f))
                .collect(Collectors.joining());
        Path source = Files.writeString(folder.resolve("standin.cpp"), SOURCE + functions + "}\n");
        Path library = folder.resolve("standin.so");
        Path log = folder.resolve("standin.log");
        Process process = new ProcessBuilder("g++", "-shared", "-fPIC", "-o", library.toString(), source.toString())
                .redirectErrorStream(true)
                .redirectOutput(log.toFile())
                .start();
        assertEquals(0, process.waitFor(), () -> read(log));
        return library;
    }

    /** The functions of libbitsandbytes that are bound. */
    static List<String> bitsandbytes() throws IOException {
        Path includes = RealNatives.repositoryFile("bindings/jextract/bitsandbytes_cuda.args");
        try (Stream<String> lines = Files.lines(includes)) {
            return lines.map(l -> l.substring(l.indexOf(' ') + 1)).toList();
        }
    }

    /** Puts the library into a folder under names. */
    static Path copy(Path library, Path folder, String... files) throws IOException {
        Files.createDirectories(folder);
        for (String file : files) {
            Files.copy(library, folder.resolve(file));
        }
        return folder;
    }

    /** What a run of {@link CudaCalls} printed. */
    static List<String> run(Path natives, Map<String, String> environment, String... arguments)
            throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                RealNatives.repositoryFile("bindings/target/classes")
                        + File.pathSeparator
                        + RealNatives.repositoryFile("bindings/target/test-classes"),
                CudaCalls.class.getName()));
        command.addAll(List.of(arguments));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().putAll(environment);
        builder.environment().put(NativeFolders.ENVIRONMENT, natives.toString());
        builder.environment().put("QLORA4J_CACHE", natives.resolve("no-cache").toString());
        Process process = builder.start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), output);
        return output.lines().toList();
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            return e.toString();
        }
    }
}
