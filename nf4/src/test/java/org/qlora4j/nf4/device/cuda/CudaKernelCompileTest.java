package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.bindings.Nvrtc;

/** NVIDIA's own compiler takes every kernel for every architecture; it needs no GPU. */
class CudaKernelCompileTest {
    /** A100, RTX 30, RTX 40, H100, B200, RTX 50. */
    private static final List<Integer> ARCHITECTURES = List.of(80, 86, 89, 90, 100, 120);

    /** 1024 threads with as many registers fill a multiprocessor. */
    private static final int REGISTERS = 64;

    /** Attention holds its tiles in registers; two blocks of 128 threads fill a multiprocessor. */
    private static final int TILE_REGISTERS = 255;

    /** What a block may have that is declared in the source. */
    private static final int STATIC_SHARED_BYTES = 48 << 10;

    private static final Path FOLDER =
            Path.of(System.getProperty("qlora4j.root"), "nf4/src/main/resources/org/qlora4j/nf4/device/cuda");

    private record Compiled(String unit, int architecture, Nvrtc.Program program) {}

    /** What the assembler says of a kernel. */
    private record Usage(CudaKernel kernel, int architecture, int registers, int stack, int spills, int shared) {}

    private static List<Compiled> all = List.of();

    @BeforeAll
    static void compile() throws IOException {
        try {
            NativePackages.ensure(NativePackage.NVRTC, System.out::println);
            Nvrtc.require();
        } catch (NativeException e) {
            assumeTrue(System.getenv("CI") != null, () -> "kernels are not compiled, NVRTC is not here: " + e);
            throw e;
        }
        List<String> units = units();
        all = ARCHITECTURES.parallelStream()
                .flatMap(architecture -> units.stream().map(unit -> compile(unit, architecture)))
                .toList();
    }

    /** All that lie beside the sources of the device, whether the launch table knows them or not. */
    private static List<String> units() throws IOException {
        try (Stream<Path> files = Files.list(FOLDER)) {
            return files.map(file -> file.getFileName().toString())
                    .filter(name -> name.endsWith(".cu"))
                    .sorted()
                    .toList();
        }
    }

    private static Compiled compile(String unit, int architecture) {
        List<String> options = new ArrayList<>(KernelCompiler.options(architecture));
        options.add("--ptxas-options=-v");
        String source = KernelCompiler.source(unit);
        return new Compiled(unit, architecture, Nvrtc.compile(source, unit, KernelCompiler.headers(source), options));
    }

    @Test
    void theLaunchTableIsWhatTheCompilerFinds() {
        Map<String, String> table = Arrays.stream(CudaKernel.values())
                .collect(Collectors.toMap(
                        CudaKernel::functionName,
                        // PTX has one type for addresses and 64-bit integers
                        k -> k.unit() + " " + k.signature().replace('L', 'P'),
                        (a, b) -> a,
                        TreeMap::new));
        Pattern entry = Pattern.compile("\\.entry (\\w+)\\s*\\(([^)]*)\\)");
        Pattern parameter = Pattern.compile("\\.param\\s+\\.(\\w+)");
        for (int architecture : ARCHITECTURES) {
            Map<String, String> found = new TreeMap<>();
            for (Compiled c : all) {
                Matcher kernel = entry.matcher(c.architecture == architecture ? c.program.ptx() : "");
                while (kernel.find()) {
                    String signature = parameter
                            .matcher(kernel.group(2))
                            .results()
                            .map(p -> letter(p.group(1)))
                            .collect(Collectors.joining());
                    found.put(kernel.group(1), c.unit + " " + signature);
                }
            }
            assertEquals(table, found, "sm_" + architecture);
        }
    }

    private static String letter(String ptxType) {
        return switch (ptxType) {
            case "u64" -> "P";
            case "u32" -> "I";
            case "f32" -> "F";
            default -> throw new AssertionError("no letter for a parameter of type " + ptxType);
        };
    }

    @Test
    void everythingStaysInRegisters() {
        List<Usage> usages = all.stream().flatMap(CudaKernelCompileTest::usages).toList();
        Map<CudaKernel, Set<Integer>> seen = new EnumMap<>(CudaKernel.class);
        for (Usage u : usages) {
            String what = u.toString();
            assertEquals(0, u.spills, what);
            assertEquals(0, u.stack, what);
            assertTrue(u.registers > 0 && u.registers <= registers(u.kernel), what);
            assertTrue(u.shared <= STATIC_SHARED_BYTES, what);
            seen.computeIfAbsent(u.kernel, k -> new TreeSet<>()).add(u.architecture);
        }
        for (CudaKernel kernel : CudaKernel.values()) {
            assertEquals(new TreeSet<>(ARCHITECTURES), seen.get(kernel), kernel + ": architectures");
        }
        System.out.println("NVRTC " + Nvrtc.version() + ": " + CudaKernel.values().length + " kernels for "
                + ARCHITECTURES.size() + " architectures, none spills; most registers: " + most(usages, REGISTERS)
                + ", " + most(usages, TILE_REGISTERS));
    }

    private static String most(List<Usage> usages, int allowed) {
        Usage most = usages.stream()
                .filter(u -> registers(u.kernel) == allowed)
                .max(Comparator.comparingInt(Usage::registers))
                .orElseThrow();
        return most.registers + " of " + allowed + " in " + most.kernel.functionName() + " on sm_" + most.architecture;
    }

    /** The registers a thread of this kernel may use. */
    private static int registers(CudaKernel kernel) {
        return kernel.unit().startsWith("attention") ? TILE_REGISTERS : REGISTERS;
    }

    private static final Pattern USAGE = Pattern.compile("Compiling entry function '(\\w+)' for 'sm_(\\d+)\\w*'"
            + "(?s:.*?)(\\d+) bytes stack frame, (\\d+) bytes spill stores, (\\d+) bytes spill loads"
            + "(?s:.*?)Used (\\d+) registers([^\\n]*)");
    private static final Pattern SHARED = Pattern.compile("(\\d+) bytes smem");

    private static Stream<Usage> usages(Compiled c) {
        return USAGE.matcher(c.program.log()).results().map(m -> {
            Matcher shared = SHARED.matcher(m.group(7));
            CudaKernel kernel = Arrays.stream(CudaKernel.values())
                    .filter(k -> k.functionName().equals(m.group(1)))
                    .findFirst()
                    .orElseThrow(
                            () -> new AssertionError(m.group(1) + " of " + c.unit + " is not in the launch table"));
            assertEquals(c.architecture, Integer.parseInt(m.group(2)), c.unit);
            return new Usage(
                    kernel,
                    c.architecture,
                    Integer.parseInt(m.group(6)),
                    Integer.parseInt(m.group(3)),
                    Integer.parseInt(m.group(4)) + Integer.parseInt(m.group(5)),
                    shared.find() ? Integer.parseInt(shared.group(1)) : 0);
        });
    }
}
