package org.qlora4j.bindings;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.function.Function;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.NativeFolders.Place;

/**
 * Finds and opens what a GPU needs: NVIDIA's driver, then runtime, cuBLAS, NVRTC and libbitsandbytes of one CUDA
 * version that this driver can run, each by its absolute path and after what it depends on.
 *
 * <p>Searched in this order: the folder of system property {@code qlora4j.natives}; the folder of environment
 * QLORA4J_NATIVES; the cache; Python's site-packages ({@code nvidia/cu13/lib} …); Conda's libraries; CUDA_HOME,
 * CUDA_PATH and {@code /usr/local/cuda}; the loader's default. Newer versions first; if a folder the user named holds
 * one, no other is taken.
 */
public final class CudaNatives {
    private static final String DRIVER = "libcuda.so.1";

    /** The versions libbitsandbytes 0.50 is built for. */
    private static final int[] BITSANDBYTES = {118, 121, 124, 126, 128, 130, 132};

    private static final List<Major> MAJORS = List.of(
            new Major(13, "13", "13", "13"), new Major(12, "12", "12", "12"), new Major(11, "11.0", "11", "11.2"));

    private static @Nullable CudaNatives open;
    private static boolean driverOpen;
    private static boolean nvrtcOpen;
    private static boolean ncclOpen;

    private final int driverVersion;
    private final int runtimeVersion;
    private final List<Natives.Opened> libraries;

    private CudaNatives(int driverVersion, int runtimeVersion, List<Natives.Opened> libraries) {
        this.driverVersion = driverVersion;
        this.runtimeVersion = runtimeVersion;
        this.libraries = List.copyOf(libraries);
    }

    /**
     * A library.
     *
     * @param name what its symbols go by in {@link org.qlora4j.bindings.symbols.LibrarySymbols}, whatever its version
     */
    record Library(String name, String file, List<String> functions) {}

    /** A major version of CUDA, with the numbers its files end with. */
    record Major(int number, String runtime, String cublas, String nvrtc) {
        /** All but libbitsandbytes, each after what it depends on. */
        List<Library> libraries() {
            return List.of(
                    new Library(
                            "libcudart.so",
                            "libcudart.so." + runtime,
                            List.of("cudaPeekAtLastError", "cudaGetDeviceCount", "cudaRuntimeGetVersion")),
                    new Library("libcublasLt.so", "libcublasLt.so." + cublas, List.of("cublasLtMatmul")),
                    new Library("libcublas.so", "libcublas.so." + cublas, List.of("cublasGemmEx")),
                    compiler());
        }

        Library compiler() {
            return new Library("libnvrtc.so", "libnvrtc.so." + nvrtc, List.of("nvrtcCompileProgram"));
        }
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
     * @throws NativeException if this machine has none, in one sentence; a later call tries again
     */
    public static synchronized void requireDriver() {
        if (!driverOpen) {
            DynamicLoader.requirePlatform(System.getProperty("os.name"), System.getProperty("os.arch"));
            // the driver comes with the system; only tests name another one
            List<Place> named = NativeFolders.namedByUser().stream()
                    .filter(place -> Files.isRegularFile(place.folder().resolve(DRIVER)))
                    .toList();
            findDriver(DRIVER, named).use("libcuda.so");
            driverOpen = true;
        }
    }

    static Natives.Found findDriver(String file, List<Place> places) {
        List<String> tried = new ArrayList<>();
        // the last of these came with CUDA 12.2
        List<String> functions = List.of("cuInit", "cuLaunchKernel", "cuMemPrefetchAsync_v2");
        Natives.Found found = Natives.find(file, functions, places, tried);
        if (found == null) {
            throw new NativeException(
                    "CUDA",
                    "no GPU can be used, since NVIDIA's driver (version 535 or newer) cannot be opened: "
                            + String.join("; ", tried));
        }
        return found;
    }

    /**
     * Opens everything.
     *
     * @throws NativeException if something is missing: says what, and what was tried; a later call tries again
     */
    public static synchronized CudaNatives require() {
        CudaNatives known = open;
        if (known == null) {
            requireDriver();
            known = open(CudaDriver.version(), places(System::getenv));
            open = known;
        }
        return known;
    }

    private static CudaNatives open(int driver, List<Place> places) {
        Version version = find(MAJORS, driver, places);
        List<Natives.Opened> opened = new ArrayList<>();
        for (int i = 0; i < version.found.size(); i++) {
            opened.add(version.found.get(i).use(version.major.libraries().get(i).name()));
        }
        int runtime = CudaRuntime.version();
        // libbitsandbytes ends the process where the runtime cannot use the driver
        if (CudaRuntime.deviceCount() < 1) {
            throw new NativeException("CUDA", "the runtime " + text(runtime) + " finds no GPU");
        }
        List<String> tried = new ArrayList<>();
        String file = bitsandbytes(runtime, version.bitsandbytes);
        Natives.Found last = Natives.find(
                file, List.of("cgemm_4bit_bf16", "cadam32bit_grad_fp32", "cget_managed_ptr"), places, tried);
        if (last == null) {
            throw new NativeException("CUDA", "cannot open " + file + "; tried\n  " + String.join("\n  ", tried));
        }
        opened.add(last.use("libbitsandbytes_cuda.so"));
        return new CudaNatives(driver, runtime, opened);
    }

    /**
     * A version of which everything is there.
     *
     * @param found its libraries in order
     * @param bitsandbytes file names of libbitsandbytes for it
     */
    record Version(Major major, List<Natives.Found> found, List<String> bitsandbytes) {}

    /** The newest version that is whole. What the generated classes once call stays, so none is used before. */
    static Version find(List<Major> majors, int driver, List<Place> places) {
        List<String> reasons = new ArrayList<>();
        for (Major major : majors) {
            if (major.number > driver / 1000) {
                reasons.add("CUDA " + major.number + ": the driver runs CUDA " + text(driver) + " at most");
                continue;
            }
            List<String> bitsandbytes = builds(major, places);
            List<String> tried = new ArrayList<>();
            List<Natives.Found> found = find(major.libraries(), places, tried);
            if (bitsandbytes.isEmpty()) {
                tried.add("libbitsandbytes_cuda" + major.number + "*.so: in none of "
                        + places.stream().map(Place::folder).toList());
            }
            if (tried.isEmpty()) {
                return new Version(major, found, bitsandbytes);
            }
            reasons.add("CUDA " + major.number + ":\n  " + String.join("\n  ", tried));
            if (isNamed(major, places)) {
                break;
            }
        }
        throw new NativeException(
                "CUDA",
                "the driver is here, but the libraries it needs are not; tried\n" + String.join("\n", reasons)
                        + "\nRun './qlora natives --cuda' to fetch them, or name their folder with"
                        + " -Dqlora4j.natives=DIR or QLORA4J_NATIVES");
    }

    /** @param tried stays empty if all are there */
    private static List<Natives.Found> find(List<Library> libraries, List<Place> places, List<String> tried) {
        List<Natives.Found> found = new ArrayList<>();
        for (Library library : libraries) {
            List<String> reasons = new ArrayList<>();
            Natives.Found one = Natives.find(library.file, library.functions, places, reasons);
            if (one == null) {
                // the next ones depend on it
                tried.addAll(reasons);
                break;
            }
            found.add(one);
        }
        return found;
    }

    private static boolean isNamed(Major major, List<Place> places) {
        return places.stream()
                .filter(Place::namedByUser)
                .anyMatch(p ->
                        Files.isRegularFile(p.folder().resolve(major.libraries().getFirst().file)));
    }

    /** File names of libbitsandbytes for a version in the first folder that has any, oldest first. */
    private static List<String> builds(Major major, List<Place> places) {
        return places.stream()
                .map(place -> Arrays.stream(BITSANDBYTES)
                        .filter(build -> build / 10 == major.number)
                        .mapToObj(build -> "libbitsandbytes_cuda" + build + ".so")
                        .filter(file -> Files.isRegularFile(place.folder().resolve(file)))
                        .toList())
                .filter(builds -> !builds.isEmpty())
                .findFirst()
                .orElse(List.of());
    }

    /**
     * The newest build that is not newer than the runtime; the oldest one if all are.
     *
     * @param builds of the runtime's major version, oldest first, at least one
     */
    static String bitsandbytes(int runtime, List<String> builds) {
        String newest = "libbitsandbytes_cuda" + (runtime / 1000 * 10 + runtime % 1000 / 10) + ".so";
        return builds.stream()
                .filter(build -> build.compareTo(newest) <= 0)
                .reduce((older, newer) -> newer)
                .orElse(builds.getFirst());
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
        List<String> tried = new ArrayList<>();
        for (Major major : MAJORS) {
            List<Natives.Found> found = find(List.of(major.compiler()), places(System::getenv), tried);
            if (!found.isEmpty()) {
                found.getFirst().use(major.compiler().name);
                nvrtcOpen = true;
                return;
            }
        }
        throw new NativeException(
                "NVRTC",
                "cannot open it; tried\n  " + String.join("\n  ", tried)
                        + "\nRun './qlora natives --cuda' to fetch it, or name its folder with"
                        + " -Dqlora4j.natives=DIR or QLORA4J_NATIVES");
    }

    /**
     * Opens NCCL, of any CUDA version.
     *
     * @throws NativeException if it is not found
     */
    static synchronized void requireNccl() {
        if (ncclOpen) {
            return;
        }
        List<String> tried = new ArrayList<>();
        // send and receive came with 2.7, the text of the last error with 2.13
        List<String> functions = List.of("ncclCommInitRank", "ncclSend", "ncclGetLastError");
        Natives.Found found = Natives.find("libnccl.so.2", functions, places(System::getenv), tried);
        if (found == null) {
            throw new NativeException(
                    "NCCL",
                    "cannot open libnccl.so.2; tried\n  " + String.join("\n  ", tried)
                            + "\nRun './qlora natives --nccl true' to fetch it, or name its folder with"
                            + " -Dqlora4j.natives=DIR or QLORA4J_NATIVES");
        }
        found.use("libnccl.so");
        ncclOpen = true;
    }

    static List<Place> places(Function<String, @Nullable String> environment) {
        List<Place> places = new ArrayList<>(NativeFolders.namedByUser());
        List<Place> others = new ArrayList<>();
        for (NativePackage cached : List.of(
                NativePackage.CUDA_RUNTIME,
                NativePackage.CUBLAS,
                NativePackage.NVRTC,
                NativePackage.NCCL,
                NativePackage.BITSANDBYTES)) {
            others.add(new Place(cached.folder(), "the cache", false));
        }
        for (Path packages : NativeFolders.sitePackages(environment)) {
            for (String folder : List.of(
                    "nvidia/cu13/lib",
                    "nvidia/cuda_runtime/lib",
                    "nvidia/cublas/lib",
                    "nvidia/cuda_nvrtc/lib",
                    "nvidia/nccl/lib",
                    "bitsandbytes")) {
                others.add(new Place(packages.resolve(folder), "Python's packages", false));
            }
        }
        String conda = environment.apply("CONDA_PREFIX");
        if (conda != null && !conda.isBlank()) {
            others.add(new Place(Path.of(conda, "lib"), "Conda's libraries", false));
        }
        Stream.of("CUDA_HOME", "CUDA_PATH")
                .map(environment)
                .filter(Objects::nonNull)
                .filter(value -> !value.isBlank())
                .forEach(root -> others.add(new Place(Path.of(root, "lib64"), "the CUDA toolkit", false)));
        others.add(new Place(Path.of("/usr/local/cuda/lib64"), "the CUDA toolkit", false));
        // absent folders are no news; those the user named are
        others.stream().filter(place -> Files.isDirectory(place.folder())).forEach(places::add);
        return places;
    }

    private static String text(int version) {
        return version / 1000 + "." + version % 1000 / 10;
    }
}
