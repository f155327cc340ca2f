package org.qlora4j.bindings;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.NativeFolders.Place;

/**
 * Finds and opens what a GPU needs: NVIDIA's driver, then runtime, cuBLAS, NVRTC and libbitsandbytes of one CUDA
 * version that this driver can run, each by its absolute path and after what it depends on.
 *
 * <p>Searched in this order: the folder of system property {@code qlora4j.natives}; the folder of environment
 * QLORA4J_NATIVES; the cache; Python's site-packages ({@code nvidia/cu13/lib} …); CUDA_HOME, CUDA_PATH and
 * {@code /usr/local/cuda}; the loader's default.
 */
public final class CudaNatives {
    /**
     * The names CUDA's libraries have in {@link org.qlora4j.bindings.symbols.LibrarySymbols}, whatever their version.
     */
    private static final String DRIVER = "libcuda.so";

    private static @Nullable CudaNatives open;
    private static boolean driverOpen;
    private static boolean nvrtcOpen;

    /** The file names of one major version. */
    private record Major(int number, String runtime, String cublasLt, String cublas, String nvrtc) {}

    private static final List<Major> MAJORS = List.of(
            new Major(13, "libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libnvrtc.so.13"),
            new Major(12, "libcudart.so.12", "libcublasLt.so.12", "libcublas.so.12", "libnvrtc.so.12"),
            new Major(11, "libcudart.so.11.0", "libcublasLt.so.11", "libcublas.so.11", "libnvrtc.so.11.2"));

    /** The versions libbitsandbytes 0.50 is built for. */
    private static final int[] BITSANDBYTES = {118, 121, 124, 126, 128, 130, 132};

    private final int driverVersion;
    private final int runtimeVersion;
    private final List<Natives.Opened> libraries;

    private CudaNatives(int driverVersion, int runtimeVersion, List<Natives.Opened> libraries) {
        this.driverVersion = driverVersion;
        this.runtimeVersion = runtimeVersion;
        this.libraries = List.copyOf(libraries);
    }

    /** The driver's CUDA version, e.g. 13020 for 13.2. */
    public int driverVersion() {
        return driverVersion;
    }

    /** The opened runtime's version. */
    public int runtimeVersion() {
        return runtimeVersion;
    }

    /** What was opened, in this order. */
    public List<Natives.Opened> libraries() {
        return libraries;
    }

    /**
     * Opens NVIDIA's driver library alone.
     *
     * @throws NativeException if this machine has none; a later call tries again
     */
    public static synchronized void requireDriver() {
        if (driverOpen) {
            return;
        }
        DynamicLoader.requirePlatform(System.getProperty("os.name"), System.getProperty("os.arch"));
        open("NVIDIA's driver", "libcuda.so.1", DRIVER, List.of("cuInit", "cuLaunchKernel"), namedOrDefault());
        driverOpen = true;
    }

    /**
     * Opens everything.
     *
     * @throws NativeException if something is missing: says what, and what was tried
     */
    public static synchronized CudaNatives require() {
        CudaNatives known = open;
        if (known != null) {
            return known;
        }
        requireDriver();
        int driver = CudaDriver.version();
        List<String> reasons = new ArrayList<>();
        for (Major major : MAJORS) {
            if (major.number > driver / 1000) {
                reasons.add("CUDA " + major.number + ": the driver runs CUDA " + text(driver) + " at most");
                continue;
            }
            try {
                known = open(major, driver);
                open = known;
                return known;
            } catch (NativeException e) {
                reasons.add("CUDA " + major.number + ": " + e.getMessage());
            }
        }
        throw new NativeException(
                "CUDA",
                "the driver is here, its libraries are not:\n" + String.join("\n", reasons)
                        + "\nRun './qlora natives --cuda' to fetch them, or name their folder with -Dqlora4j.natives=DIR");
    }

    /**
     * Opens NVRTC alone: for machines without a GPU, on which kernels can be compiled.
     *
     * @throws NativeException if it is not found
     */
    static synchronized void requireNvrtc() {
        if (open != null || nvrtcOpen) {
            return;
        }
        DynamicLoader.requirePlatform(System.getProperty("os.name"), System.getProperty("os.arch"));
        NativeException first = null;
        for (Major major : MAJORS) {
            try {
                openNvrtc(major, places(System::getenv));
                nvrtcOpen = true;
                return;
            } catch (NativeException e) {
                first = first == null ? e : first;
            }
        }
        throw Objects.requireNonNull(first);
    }

    private static Natives.Opened openNvrtc(Major major, List<Place> places) {
        return open("NVRTC", major.nvrtc, "libnvrtc.so", List.of("nvrtcCompileProgram"), places);
    }

    private static CudaNatives open(Major major, int driver) {
        List<Place> places = places(System::getenv);
        List<Natives.Opened> opened = new ArrayList<>();
        opened.add(open(
                "the CUDA runtime",
                major.runtime,
                "libcudart.so",
                List.of("cudaPeekAtLastError", "cudaGetDeviceCount"),
                places));
        int runtime = CudaRuntime.version();
        opened.add(open("cuBLASLt", major.cublasLt, "libcublasLt.so", List.of("cublasLtMatmul"), places));
        opened.add(open("cuBLAS", major.cublas, "libcublas.so", List.of("cublasGemmEx"), places));
        opened.add(openNvrtc(major, places));
        opened.add(open(
                "bitsandbytes for CUDA",
                "libbitsandbytes_cuda" + bitsandbytesVersion(runtime) + ".so",
                "libbitsandbytes_cuda.so",
                List.of("cgemm_4bit_bf16", "cadam32bit_grad_fp32", "cget_managed_ptr"),
                places));
        return new CudaNatives(driver, runtime, opened);
    }

    /** The newest build for this runtime's major version that is not newer than it; the oldest one if all are. */
    static int bitsandbytesVersion(int runtime) {
        int wanted = runtime / 1000 * 10 + runtime % 1000 / 10;
        int best = 0;
        for (int version : BITSANDBYTES) {
            if (version / 10 == wanted / 10 && (version <= wanted || best == 0)) {
                best = version;
            }
        }
        return best;
    }

    private static Natives.Opened open(
            String title, String file, String name, List<String> functions, List<Place> places) {
        return Natives.open(title, file, name, functions, places);
    }

    /** The driver comes with the system; only tests name another one. */
    private static List<Place> namedOrDefault() {
        return NativeFolders.namedByUser().stream()
                .filter(place -> Files.isRegularFile(place.folder().resolve("libcuda.so.1")))
                .toList();
    }

    static List<Place> places(Function<String, @Nullable String> environment) {
        List<Place> places = new ArrayList<>(NativeFolders.namedByUser());
        for (NativePackage cached : List.of(
                NativePackage.CUDA_RUNTIME, NativePackage.CUBLAS, NativePackage.NVRTC, NativePackage.BITSANDBYTES)) {
            places.add(new Place(cached.folder(), "the cache", false));
        }
        for (Path packages : NativeFolders.sitePackages(environment)) {
            for (String folder : List.of(
                    "nvidia/cu13/lib",
                    "nvidia/cuda_runtime/lib",
                    "nvidia/cublas/lib",
                    "nvidia/cuda_nvrtc/lib",
                    "bitsandbytes")) {
                places.add(new Place(packages.resolve(folder), "Python's packages", false));
            }
        }
        java.util.stream.Stream.of("CUDA_HOME", "CUDA_PATH")
                .map(environment)
                .filter(Objects::nonNull)
                .filter(value -> !value.isBlank())
                .forEach(root -> places.add(new Place(Path.of(root, "lib64"), "the CUDA toolkit", false)));
        places.add(new Place(Path.of("/usr/local/cuda/lib64"), "the CUDA toolkit", false));
        // absent folders are no news; those the user named are
        return places.stream()
                .filter(place -> place.namedByUser() || Files.isDirectory(place.folder()))
                .sorted(Comparator.comparing(place -> !place.namedByUser()))
                .toList();
    }

    private static String text(int version) {
        return version / 1000 + "." + version % 1000 / 10;
    }
}
