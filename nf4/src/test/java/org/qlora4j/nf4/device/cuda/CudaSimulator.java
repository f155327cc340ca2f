package org.qlora4j.nf4.device.cuda;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;

/**
 * Builds the simulated GPU of {@code src/test/native/cuda} with g++ and puts it in the place of NVIDIA's libraries: the
 * project's kernels run on the host, libbitsandbytes is the real one on a simulated runtime, NVRTC is the real one. See
 * the README beside the sources.
 */
public final class CudaSimulator {
    private static final List<String> FLAGS = Stream.concat(
                    HostCompiler.FLAGS.stream(), Stream.of("-fPIC", "-fvisibility=hidden"))
            .toList();

    // What libcuda.cpp answers beyond a driver.
    private static final int ALLOCATIONS = 1000;
    private static final int SET_MEMORY = 1100;
    private static final int SKIP_BARRIER = 1101;
    private static final int LAST_LAUNCH = 1000;
    private static final int BARRIERS = 2000;

    /** Whether tests run on the GPU that is there (-Pgpu, gpu-check). */
    public static final boolean REAL = Boolean.getBoolean("qlora4j.gpu");

    private static boolean installed;

    private CudaSimulator() {}

    /**
     * Makes this process find the simulated GPU, for good. Skips the test where there is no g++, but not in CI.
     *
     * @return the folder of the libraries
     */
    public static synchronized Path install() {
        if (!installed) {
            HostCompiler.require();
            System.setProperty("qlora4j.natives", build().toString());
            CudaDriver.initialize();
            installed = true;
        }
        return Path.of(System.getProperty("qlora4j.natives"));
    }

    /** Makes this process find the simulated GPU unless tests run on a real one. */
    public static void installUnlessReal() {
        if (!REAL) {
            install();
        }
    }

    /** The folder of the kernels' sources. */
    public static Path kernels() {
        return HostCompiler.root().resolve(HostCompiler.KERNELS);
    }

    /** Pieces of device and managed memory that nobody has freed. */
    public static int allocations() {
        return CudaDriver.attribute(0, ALLOCATIONS);
    }

    /** Limits the device's memory; 0 for the environment's. */
    public static void setMemory(int mebibytes) {
        CudaDriver.attribute(mebibytes, SET_MEMORY);
    }

    /** The last launch of libbitsandbytes: {@code kernel; grid x y z; block x y z; shared bytes; stream; arguments}. */
    static String lastLaunch() {
        return text(LAST_LAUNCH);
    }

    /** Every {@code __syncthreads()} that a kernel has come to, e.g. {@code norm.cu:40}. */
    public static List<String> barriers() {
        return text(BARRIERS).lines().toList();
    }

    /** Leaves out one of {@link #barriers}; -1 for none. */
    public static void skipBarrier(int number) {
        CudaDriver.attribute(number, SKIP_BARRIER);
    }

    /** The driver gives 255 letters at a time. */
    private static String text(int question) {
        StringBuilder text = new StringBuilder();
        String piece;
        do {
            piece = CudaDriver.name(question++);
            text.append(piece);
        } while (!piece.isEmpty());
        return text.toString();
    }

    /** Builds unless it is built; the folder is named for what it is made of. */
    private static Path build() {
        try {
            Path root =
                    Path.of(System.getProperty("qlora4j.root")).toAbsolutePath().normalize();
            Map<String, String> units = units();
            Path folder = root.resolve("nf4/target/cuda-simulator").resolve(hash(root, units));
            if (!Files.exists(folder.resolve("complete"))) {
                Files.createDirectories(folder);
                compile(root, folder, units);
                link(folder);
            }
            Path bitsandbytes = NativePackages.ensure(NativePackage.BITSANDBYTES, System.err::println);
            Path nvrtc = NativePackages.ensure(NativePackage.NVRTC, System.err::println);
            for (Path library : List.of(
                    bitsandbytes.resolve("libbitsandbytes_cuda132.so"),
                    bitsandbytes.resolve("libbitsandbytes_cpu.so"),
                    nvrtc.resolve("libnvrtc.so.13"),
                    nvrtc.resolve("libnvrtc-builtins.so.13.2"))) {
                Path link = folder.resolve(library.getFileName());
                if (!Files.exists(link)) {
                    Files.createSymbolicLink(link, library);
                }
            }
            // the tests of the other modules find it there
            Files.writeString(root.resolve("nf4/target/cuda-simulator/current"), folder.toString());
            return folder;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** For each .cu a C++ file that makes its kernels known to the simulated driver. */
    private static Map<String, String> units() {
        return Arrays.stream(CudaKernel.values())
                .collect(Collectors.groupingBy(CudaKernel::unit, TreeMap::new, Collectors.toList()))
                .entrySet()
                .stream()
                .collect(Collectors.toMap(
                        Map.Entry::getKey,
                        // units may have functions of the same name
                        e -> "#include \"common.cuh\"\n#include \"register.h\"\nnamespace {\n#include \"" + e.getKey()
                                + "\"\n"
                                + e.getValue().stream()
                                        .map(k -> "REGISTER(" + k.functionName() + ")\n")
                                        .collect(Collectors.joining())
                                + "}\n",
                        (a, b) -> a,
                        TreeMap::new));
    }

    private static String hash(Path root, Map<String, String> units) throws IOException {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update((FLAGS + units.toString()).getBytes(StandardCharsets.UTF_8));
            for (String folder : List.of(HostCompiler.KERNELS, HostCompiler.SOURCES)) {
                try (Stream<Path> files = Files.list(root.resolve(folder))) {
                    for (Path file : files.filter(Files::isRegularFile).sorted().toList()) {
                        digest.update(file.getFileName().toString().getBytes(StandardCharsets.UTF_8));
                        digest.update(Files.readAllBytes(file));
                    }
                }
            }
            return HexFormat.of().formatHex(digest.digest()).substring(0, 16);
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }

    private static void compile(Path root, Path folder, Map<String, String> units) throws IOException {
        List<Process> running = new ArrayList<>();
        List<Path> sources = new ArrayList<>();
        for (Map.Entry<String, String> unit : units.entrySet()) {
            Path source = folder.resolve("kernels_" + unit.getKey().replace(".cu", ".cpp"));
            Files.writeString(source, unit.getValue());
            sources.add(source);
        }
        try (Stream<Path> files = Files.list(root.resolve(HostCompiler.SOURCES))) {
            files.filter(f -> f.toString().endsWith(".cpp")).forEach(sources::add);
        }
        int atOnce = Runtime.getRuntime().availableProcessors();
        for (Path source : sources) {
            if (running.size() >= atOnce) {
                await(running.removeFirst());
            }
            List<String> command = new ArrayList<>(List.of("g++", "-c", source.toString()));
            command.addAll(FLAGS);
            command.addAll(List.of(
                    "-I",
                    root.resolve(HostCompiler.KERNELS).toString(),
                    "-I",
                    root.resolve(HostCompiler.SOURCES).toString()));
            command.addAll(List.of("-o", object(folder, source).toString()));
            running.add(start(command));
        }
        running.forEach(CudaSimulator::await);
    }

    private static Path object(Path folder, Path source) {
        return folder.resolve(source.getFileName().toString().replace(".cpp", ".o"));
    }

    private static void link(Path folder) throws IOException {
        List<String> driver = new ArrayList<>(List.of("sim.o", "shim.o", "libcuda.o"));
        try (Stream<Path> files = Files.list(folder)) {
            files.map(f -> f.getFileName().toString())
                    .filter(f -> f.startsWith("kernels_") && f.endsWith(".o"))
                    .sorted()
                    .forEach(driver::add);
        }
        link(folder, "libcuda.so.1", driver);
        // libbitsandbytes asks for symbols with the libraries' names as versions
        link(folder, "libcublasLt.so.13", List.of("libcublaslt.o"));
        link(folder, "libcublas.so.13", List.of("libcublas.o"));
        link(folder, "libnccl.so.2", List.of("libnccl.o"));
        link(
                folder,
                "libcudart.so.13",
                List.of("libcudart.o", "bitsandbytes.o", "bitsandbytes_blocks.o", "bitsandbytes_optimizers.o"));
        Files.writeString(folder.resolve("complete"), "");
    }

    private static void link(Path folder, String library, List<String> objects) throws IOException {
        List<String> command = new ArrayList<>(List.of("g++", "-shared", "-Wl,-soname," + library));
        objects.forEach(o -> command.add(folder.resolve(o).toString()));
        if (!library.startsWith("libcuda.")) {
            Path script = folder.resolve(library + ".map");
            Files.writeString(script, library + " { global: *; };\n");
            command.add("-Wl,--version-script=" + script);
            command.add(folder.resolve("libcuda.so.1").toString());
        }
        Path whole = folder.resolve(library + ".tmp");
        command.addAll(List.of("-o", whole.toString()));
        await(start(command));
        Files.move(whole, folder.resolve(library), StandardCopyOption.ATOMIC_MOVE);
    }

    private static Process start(List<String> command) throws IOException {
        return new ProcessBuilder(command).redirectErrorStream(true).start();
    }

    private static void await(Process process) {
        try {
            TestProcess.Ended ended = HostCompiler.end(process);
            if (ended.code() != 0) {
                throw new AssertionError("g++ failed:\n" + ended.output());
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
