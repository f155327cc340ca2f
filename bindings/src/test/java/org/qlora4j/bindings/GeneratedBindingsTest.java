package org.qlora4j.bindings;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.bindings.generated.bitsandbytes.bitsandbytes_h;
import org.qlora4j.bindings.generated.cublas.cublas_h;
import org.qlora4j.bindings.generated.cuda.cuda_h;
import org.qlora4j.bindings.generated.cudart.cudart_h;
import org.qlora4j.bindings.generated.dnnl.dnnl_h;
import org.qlora4j.bindings.generated.mpi.mpi_h;
import org.qlora4j.bindings.generated.nccl.nccl_h;
import org.qlora4j.bindings.generated.nvrtc.nvrtc_h;

/** The generated classes against the headers they come from and the libraries they call. */
class GeneratedBindingsTest {
    @BeforeAll
    static void open() {
        RealNatives.oneDnn();
        RealNatives.bitsandbytes();
        Natives.oneDnn();
        Natives.bitsandbytes();
        NativePackages.ensure(NativePackage.NVRTC, System.err::println);
        Nvrtc.require();
    }

    record Binding(String name, String header, Class<?> generated) {
        @Override
        public String toString() {
            return name;
        }

        Set<String> functions() {
            return Arrays.stream(generated.getDeclaredMethods())
                    .map(Method::getName)
                    .filter(n -> n.endsWith("$descriptor"))
                    .map(n -> n.substring(0, n.indexOf('$')))
                    .collect(Collectors.toCollection(TreeSet::new));
        }

        String includeList() throws IOException {
            return Files.readString(RealNatives.repositoryFile("bindings/jextract/" + name + ".args"));
        }

        String headerText() throws IOException {
            return Files.readString(RealNatives.repositoryFile("bindings/jextract/" + header + ".h"));
        }
    }

    static Stream<Binding> bindings() {
        return Stream.concat(
                libraries(),
                Stream.of(
                        new Binding(
                                "bitsandbytes_cuda",
                                "bitsandbytes",
                                org.qlora4j.bindings.generated.bitsandbytes_cuda.bitsandbytes_h.class),
                        new Binding("cuda", "cuda", cuda_h.class),
                        new Binding("cudart", "cudart", cudart_h.class),
                        new Binding("cublas", "cublas", cublas_h.class),
                        new Binding("nccl", "nccl", nccl_h.class),
                        new Binding("mpi", "mpi", mpi_h.class)));
    }

    /** Those whose library opens on a machine without a GPU. */
    static Stream<Binding> libraries() {
        return Stream.of(
                new Binding("bitsandbytes", "bitsandbytes", bitsandbytes_h.class),
                new Binding("dnnl", "dnnl", dnnl_h.class),
                new Binding("nvrtc", "nvrtc", nvrtc_h.class));
    }

    @ParameterizedTest
    @MethodSource("bindings")
    void functionsAreThoseOfTheIncludeList(Binding binding) throws IOException {
        Set<String> included = binding.includeList()
                .lines()
                .filter(l -> l.startsWith("--include-function "))
                .map(l -> l.substring(l.indexOf(' ') + 1))
                .collect(Collectors.toCollection(TreeSet::new));
        assertEquals(included, binding.functions());
    }

    /** the committed bindings are those of the real libraries. */
    @ParameterizedTest
    @MethodSource("libraries")
    void everyFunctionIsExported(Binding binding) throws ReflectiveOperationException {
        for (String function : binding.functions()) {
            MemorySegment address = (MemorySegment)
                    binding.generated().getMethod(function + "$address").invoke(null);
            assertNotEquals(0, address.address(), function);
        }
    }

    @ParameterizedTest
    @MethodSource("libraries")
    void everySignatureIsTheHeaders(Binding binding) throws IOException, ReflectiveOperationException {
        String header = binding.headerText().replaceAll("(?s)/\\*.*?\\*/", "");
        for (String function : binding.functions()) {
            Matcher declaration = Pattern.compile("(?m)^([a-z][\\w ]*[ *])" + function + "\\(([^)]*)\\);")
                    .matcher(header);
            assertTrue(declaration.find(), function + " is not declared in " + binding + ".h");
            FunctionDescriptor found = (FunctionDescriptor)
                    binding.generated().getMethod(function + "$descriptor").invoke(null);
            assertEquals(descriptor(declaration.group(1), declaration.group(2)), erase(found), function);
        }
    }

    private static FunctionDescriptor descriptor(String result, String parameters) {
        List<MemoryLayout> layouts = new ArrayList<>();
        if (!parameters.strip().equals("void")) {
            for (String parameter : parameters.split(",")) {
                // without the parameter's name
                layouts.add(layout(parameter.replaceAll("\\w+\\s*$", "")));
            }
        }
        MemoryLayout[] array = layouts.toArray(MemoryLayout[]::new);
        return result.strip().equals("void")
                ? FunctionDescriptor.ofVoid(array)
                : FunctionDescriptor.of(layout(result), array);
    }

    /** The System V ABI of x86-64. */
    private static MemoryLayout layout(String type) {
        if (type.contains("*")) {
            return ADDRESS;
        }
        return switch (type.replace("const", "").strip()) {
            case "bool" -> JAVA_BOOLEAN;
            case "char" -> JAVA_BYTE;
            case "int", "dnnl_status_t", "dnnl_cpu_isa_t", "nvrtcResult" -> JAVA_INT;
            // a pointer to a structure nobody sees
            case "nvrtcProgram" -> ADDRESS;
            case "long long", "int64_t", "dnnl_dim_t", "size_t" -> JAVA_LONG;
            case "float" -> JAVA_FLOAT;
            default -> throw new AssertionError("this test does not know the C type '" + type + "'");
        };
    }

    /** Without names and the layouts that pointers point to. */
    private static FunctionDescriptor erase(FunctionDescriptor found) {
        MemoryLayout[] parameters = found.argumentLayouts().stream()
                .map(GeneratedBindingsTest::erase)
                .toArray(MemoryLayout[]::new);
        return found.returnLayout()
                .map(result -> FunctionDescriptor.of(erase(result), parameters))
                .orElseGet(() -> FunctionDescriptor.ofVoid(parameters));
    }

    private static MemoryLayout erase(MemoryLayout layout) {
        return layout instanceof java.lang.foreign.AddressLayout a
                ? a.withoutTargetLayout().withoutName()
                : layout.withoutName();
    }

    /** What {@link Natives} asks of a library before it takes it is what the wrappers call. */
    @Test
    void requiredFunctionsAreGenerated() {
        Set<String> generated = new TreeSet<>();
        bindings().forEach(b -> generated.addAll(b.functions()));
        for (Natives.Library library : List.of(Natives.Library.ONEDNN, Natives.Library.BITSANDBYTES)) {
            assertTrue(generated.containsAll(library.functions), library.functions + " of " + generated);
        }
    }
}
