package org.qlora4j.samples;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.bindings.CudaNatives;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.samples.bench.GpuBench;
import org.qlora4j.samples.bench.GpuTraining;
import org.qlora4j.samples.bench.ModelShape;

/**
 * {@code qlora gpu-check}: everything that only a card can show. What is here and why it was chosen; the tests of
 * operations, quantized bytes and golden models on the card, again under compute-sanitizer if there is one; the speed
 * of each kernel; training and answering with generated weights. Tables for people, one JSON file for programs.
 */
final class GpuCheck {
    private static final List<String> SANITIZER_TOOLS = List.of("memcheck", "racecheck", "synccheck");
    private static final int ANSWER_TOKENS = 128;
    private static final int TINY_ANSWER = 4;

    private final Arguments a;
    private final String name;
    private final PrintStream out = System.out;
    private final ObjectNode json = JsonNodeFactory.instance.objectNode();
    private boolean passed = true;

    private GpuCheck(Arguments a, String name) {
        this.a = a;
        this.name = name;
    }

    static int run(Arguments a) {
        Session.nameNatives(a);
        ModelShape shape = ModelShape.of(a.text("size"));
        if (a.integer("steps") < 1) {
            throw new UserException("steps must be at least 1, got " + a.integer("steps"));
        }
        String name = a.text("device").equals("auto") ? "cuda:0" : a.text("device");
        if (!Devices.isCuda(name)) {
            throw new UserException("gpu-check needs a GPU, --device cuda:0 and so on; got '" + name + "'");
        }
        return new GpuCheck(a, name).run(shape);
    }

    private int run(ModelShape shape) {
        environment();
        if (a.bool("tests")) {
            // before this process takes memory of the card
            tests();
        }
        try (Device device = Devices.open(name, 0)) {
            heading("kernels");
            GpuBench bench = GpuBench.run(device, Devices.ordinal(name), shape, "");
            out.println(bench.table());
            json.set("kernels", bench.json());
        }
        // a device of its own: its peak is that of training
        try (Device device = Devices.open(name, 0)) {
            heading("training and answering, " + shape.name() + ", 1 x " + shape.tokens() + " tokens");
            int answer = shape == ModelShape.TINY ? TINY_ANSWER : ANSWER_TOKENS;
            json.set("training", GpuTraining.run(device, shape, a.integer("steps"), answer, out));
        }
        write(Path.of(a.text("result_path")));
        out.println(passed ? "gpu-check: all passed" : "gpu-check: FAILED, see above");
        return passed ? 0 : 1;
    }

    private void heading(String what) {
        out.println();
        out.println("== " + what);
    }

    private void environment() {
        heading("environment");
        CudaNatives natives = CudaNatives.require();
        int device = CudaDriver.device(Devices.ordinal(name));
        ObjectNode node = json.putObject("environment");
        node.put("card", CudaDriver.name(device));
        node.put("driver", natives.driverVersion()).put("runtime", natives.runtimeVersion());
        node.put("memory_bytes", CudaDriver.totalMemory(device)).put("free_bytes", Devices.freeGpuMemory(name));
        node.put("bitsandbytes", NativePackage.BITSANDBYTES.coordinates());
        node.put("java", System.getProperty("java.version"));
        node.put("system", System.getProperty("os.name") + " " + System.getProperty("os.version"));
        node.put("processors", Runtime.getRuntime().availableProcessors());
        node.properties()
                .forEach(e -> out.println(e.getKey() + ": " + e.getValue().asText()));
        ArrayNode libraries = node.putArray("libraries");
        natives.libraries().forEach(library -> {
            libraries.add(library.toString());
            out.println("library: " + library);
        });
    }

    private void tests() {
        GpuTests tests = GpuTests.find();
        heading("tests on the card");
        json.set("tests", outcome("tests", tests.run(GpuTests.ALL, List.of(), out)));
        Optional<Path> sanitizer = sanitizer();
        if (sanitizer.isEmpty()) {
            out.println("compute-sanitizer: not on PATH and not in CUDA_HOME/bin, left out");
            return;
        }
        ObjectNode all = json.putObject("compute_sanitizer");
        for (String tool : SANITIZER_TOOLS) {
            heading(tool);
            List<String> under = List.of(
                    sanitizer.get().toString(), "--tool", tool, "--target-processes", "all", "--error-exitcode", "9");
            all.set(tool, outcome(tool, tests.run(GpuTests.OPERATIONS, under, out)));
        }
    }

    private ObjectNode outcome(String what, GpuTests.Outcome o) {
        passed &= o.passed();
        out.println(String.format(
                Locale.ROOT,
                "%s: %d passed, %d failed, %d not run, exit code %d, %.1f s",
                what,
                o.successful(),
                o.failed(),
                o.notRun(),
                o.exit(),
                o.seconds()));
        ObjectNode node = JsonNodeFactory.instance.objectNode();
        node.put("passed", o.successful()).put("failed", o.failed()).put("not_run", o.notRun());
        return node.put("exit", o.exit()).put("seconds", o.seconds());
    }

    private static Optional<Path> sanitizer() {
        String path = Objects.requireNonNullElse(System.getenv("PATH"), "");
        Stream<Path> folders = Stream.concat(
                Stream.of("CUDA_HOME", "CUDA_PATH")
                        .map(System::getenv)
                        .filter(Objects::nonNull)
                        .map(home -> Path.of(home, "bin")),
                Stream.of(path.split(File.pathSeparator))
                        .filter(f -> !f.isBlank())
                        .map(Path::of));
        return Stream.concat(folders, Stream.of(Path.of("/usr/local/cuda/bin")))
                .map(folder -> folder.resolve("compute-sanitizer"))
                .filter(Files::isExecutable)
                .findFirst();
    }

    private void write(Path file) {
        AtomicFile.writeString(file, json.toPrettyString() + System.lineSeparator());
        out.println();
        out.println("all figures: " + file.toAbsolutePath());
    }
}
