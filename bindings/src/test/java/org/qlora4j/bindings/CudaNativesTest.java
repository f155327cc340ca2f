package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.qlora4j.bindings.Messages.assertSays;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.bindings.CudaNatives.Major;
import org.qlora4j.bindings.NativeFolders.Place;

class CudaNativesTest {
    /** With endings that the loader's own search cannot find. */
    private static final List<Major> MAJORS =
            List.of(new Major(13, "t13", "t13", "t13"), new Major(12, "t12", "t12", "t12"));

    private static final String[] CUDA_13 = files("t13", 130);
    private static final String[] CUDA_12 = files("t12", 124);

    @TempDir
    static Path built;

    private static Path library;

    @TempDir
    Path folder;

    @BeforeAll
    static void build() throws IOException, InterruptedException {
        library = CudaStandIns.build(built);
    }

    private Place place(String name, boolean namedByUser, String... files) throws IOException {
        return new Place(CudaStandIns.copy(library, folder.resolve(name), files), "this test", namedByUser);
    }

    private static String[] files(String version, int build) {
        return new String[] {
            "libcudart.so." + version,
            "libcublasLt.so." + version,
            "libcublas.so." + version,
            "libnvrtc.so." + version,
            "libbitsandbytes_cuda" + build + ".so"
        };
    }

    private static String[] without(String[] files, int index) {
        return java.util.stream.IntStream.range(0, files.length)
                .filter(i -> i != index)
                .mapToObj(i -> files[i])
                .toArray(String[]::new);
    }

    @Test
    void aMissingDriverIsOneSentence() {
        NativeException e = assertThrows(
                NativeException.class, () -> CudaNatives.findDriver("libqlora4j_no_driver.so.1", List.of()));
        assertEquals(
                "CUDA: no GPU can be used, since NVIDIA's driver (version 535 or newer) cannot be opened: the loader's"
                        + " default: libqlora4j_no_driver.so.1: cannot open shared object file: No such file or directory",
                e.getMessage());
    }

    @Test
    void anOldDriverIsNamed() throws IOException {
        RealNatives.bitsandbytes();
        Path old = Files.createDirectory(folder.resolve("old"));
        Files.copy(
                RealNatives.bitsandbytes().resolve("libbitsandbytes_cpu.so"),
                old.resolve("libqlora4j_old_driver.so.1"));
        NativeException e = assertThrows(
                NativeException.class,
                () -> CudaNatives.findDriver("libqlora4j_old_driver.so.1", List.of(new Place(old, "this test", true))));
        assertSays(e, "version 535 or newer", old.toString(), "does not export", "cuMemPrefetchAsync_v2");
        assertFalse(Messages.of(e).contains("\n"), Messages.of(e));
    }

    @Test
    void takesTheNewestVersionTheDriverRuns() throws IOException {
        Place newer = place("13", false, CUDA_13);
        Place older = place("12", false, CUDA_12);
        CudaNatives.Version version = CudaNatives.find(MAJORS, 13000, List.of(older, newer));
        assertEquals(13, version.major().number());
        assertEquals(
                List.of(CUDA_13).subList(0, 4),
                version.found().stream().map(f -> f.opened().file()).toList());
        assertEquals(
                12,
                CudaNatives.find(MAJORS, 12080, List.of(newer, older)).major().number());

        NativeException e = assertThrows(NativeException.class, () -> CudaNatives.find(MAJORS, 12080, List.of(newer)));
        assertSays(
                e,
                "CUDA 13: the driver runs CUDA 12.8 at most",
                "CUDA 12:",
                newer.folder().resolve("libcudart.so.t12") + ": no such file (this test)",
                "libbitsandbytes_cuda12*.so: in none of [" + newer.folder() + "]",
                "'./qlora natives --cuda'");
    }

    /** Whatever is missing of the newer version: parts of two versions do not work together. */
    @ParameterizedTest
    @CsvSource({"0", "1", "2", "3", "4"})
    void doesNotMixVersions(int missing) throws IOException {
        Place newer = place("13", false, without(CUDA_13, missing));
        Place older = place("12", false, CUDA_12);
        assertEquals(
                12,
                CudaNatives.find(MAJORS, 13000, List.of(newer, older)).major().number());

        Place named = place("named", true, without(CUDA_13, missing));
        if (missing != 0) {
            // a folder with the newer runtime in it: the user wants that one
            NativeException e =
                    assertThrows(NativeException.class, () -> CudaNatives.find(MAJORS, 13000, List.of(named, older)));
            assertSays(e, CUDA_13[missing].replace("130", "13*"), named.folder().toString());
        }
    }

    @ParameterizedTest
    @CsvSource({
        "13000, 130",
        "13010, 130",
        "13020, 132",
        "13040, 132",
        "12090, 128",
        "12040, 124",
        "12030, 121",
        "12000, 121",
        "11080, 118",
        "11070, 118"
    })
    void takesTheBuildForTheRuntime(int runtime, int expected) {
        List<String> builds = java.util.stream.IntStream.of(118, 121, 124, 126, 128, 130, 132)
                .filter(b -> b / 10 == runtime / 1000)
                .mapToObj(b -> "libbitsandbytes_cuda" + b + ".so")
                .toList();
        assertEquals("libbitsandbytes_cuda" + expected + ".so", CudaNatives.bitsandbytes(runtime, builds));
        assertEquals(
                "libbitsandbytes_cuda130.so", CudaNatives.bitsandbytes(13020, List.of("libbitsandbytes_cuda130.so")));
    }

    @Test
    void searchOrder() throws IOException {
        Path packages = Files.createDirectories(folder.resolve("venv/lib/python3.12/site-packages"));
        Path nvidia = Files.createDirectories(packages.resolve("nvidia/cu13/lib"));
        Path bitsandbytes = Files.createDirectories(packages.resolve("bitsandbytes"));
        Path conda = Files.createDirectories(folder.resolve("conda/lib"));
        Path toolkit = Files.createDirectories(folder.resolve("cuda/lib64"));
        Map<String, String> environment = Map.of(
                "VIRTUAL_ENV", folder.resolve("venv").toString(),
                "CONDA_PREFIX", folder.resolve("conda").toString(),
                "CUDA_HOME", folder.resolve("cuda").toString(),
                "CUDA_PATH", " ");
        List<Path> found = CudaNatives.places(environment::get).stream()
                .map(Place::folder)
                .filter(f -> f.startsWith(folder))
                .toList();
        assertEquals(List.of(nvidia, bitsandbytes, conda, toolkit), found);
    }

    /** In a process of its own, which stays with what it opened. */
    @Test
    void opensOneVersion() throws IOException, InterruptedException {
        Path natives = place("natives", false, files("12", 124)).folder();
        CudaStandIns.copy(library, natives, "libcuda.so.1", "libbitsandbytes_cuda128.so");
        List<String> opened =
                CudaStandIns.run(natives, Map.of("STANDIN_DRIVER", "12080", "STANDIN_RUNTIME", "12060"), "open");
        assertEquals(
                List.of(
                        "12080 12060",
                        natives.resolve("libcudart.so.12").toString(),
                        natives.resolve("libcublasLt.so.12").toString(),
                        natives.resolve("libcublas.so.12").toString(),
                        natives.resolve("libnvrtc.so.12").toString(),
                        natives.resolve("libbitsandbytes_cuda124.so").toString()),
                opened);
    }

    @Test
    void saysWhyThereIsNoGpu() throws IOException, InterruptedException {
        Path natives = place("natives", false, files("13", 130)).folder();
        CudaStandIns.copy(library, natives, "libcuda.so.1");
        assertEquals(
                List.of("CUDA driver: cuInit failed with status 100 (CUDA_ERROR_NO_DEVICE: no GPU, says the stand-in)"),
                CudaStandIns.run(natives, Map.of("STANDIN_INIT", "100"), "open"));
        assertEquals(
                List.of("CUDA runtime: cudaGetDeviceCount failed with status 35 (as the stand-in says)"),
                CudaStandIns.run(natives, Map.of("STANDIN_RUNTIME_ERROR", "35"), "open"));
    }
}
