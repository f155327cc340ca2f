package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/** One folder of golden/models: a base, an adapter, rows, and what transformers, peft and bitsandbytes computed. */
record GoldenCase(String name, Path folder, Path shared, JsonNode expected, List<Batch.Row> rows) {
    static final ObjectMapper JSON = new ObjectMapper();

    /** The project's cases and, where it lies beside the checkout, the whole set they were taken from. */
    private static List<Path> roots() {
        return Stream.of(
                        Path.of(System.getProperty("qlora4j.golden"), "models"),
                        Path.of(System.getProperty("qlora4j.root"), "..", "shared", "golden", "models"))
                .filter(Files::isDirectory)
                .toList();
    }

    /** Names of all cases there are, 4-bit variants as {@code case/variant}. */
    static Set<String> names() throws IOException {
        Set<String> names = new TreeSet<>();
        for (Path root : roots()) {
            try (Stream<Path> files = Files.walk(root, 3)) {
                files.filter(f -> f.endsWith("expected.json"))
                        .forEach(f -> names.add(root.relativize(f.getParent()).toString()));
            }
        }
        return names;
    }

    static GoldenCase open(String name) throws IOException {
        Path folder = roots().stream()
                .map(root -> root.resolve(name))
                .filter(Files::isDirectory)
                .findFirst()
                .orElseThrow();
        Path shared = name.contains("/") ? folder.getParent() : folder;
        List<Batch.Row> rows = new ArrayList<>();
        for (String line : Files.readAllLines(shared.resolve("batch.jsonl"))) {
            JsonNode row = JSON.readTree(line);
            rows.add(new Batch.Row(
                    JSON.convertValue(row.get("input_ids"), int[].class),
                    JSON.convertValue(row.get("labels"), int[].class)));
        }
        return new GoldenCase(
                name,
                folder,
                shared,
                JSON.readTree(folder.resolve("expected.json").toFile()),
                rows);
    }

    Path base() {
        return folder.resolve("base");
    }

    int labelTokens() {
        return rows.stream().mapToInt(Batch.Row::labelTokens).sum();
    }

    Safetensors tensors() {
        return Safetensors.open(folder.resolve("expected.safetensors"));
    }

    Transformer load(Device device) {
        return load(base(), device);
    }

    static Transformer load(Path folder, Device device) {
        try (ModelSource source = ModelSource.open(folder)) {
            return ModelLoader.load(source, device, new ModelLoader.Options(DType.F32, null, 2), (done, all) -> {});
        }
    }

    LoraAdapter attach(Transformer model) {
        Path adapter = shared.resolve("adapter_init");
        return AdapterFiles.load(model, AdapterFiles.readConfig(adapter), adapter);
    }

    static double mean(double[] losses) {
        double sum = 0;
        for (double l : losses) {
            sum += l;
        }
        return sum / losses.length;
    }

    static float[] values(Safetensors file, String name) {
        StoredTensor t = file.get(name);
        float[] values = new float[(int) t.elements()];
        file.readFloats(t, 0, values.length, values, 0);
        return values;
    }

    static float[] download(Device device, Tensor t) {
        float[] values = new float[(int) t.numel()];
        device.download(t, values, 0);
        return values;
    }

    /** max |found − expected|. */
    static double largest(float[] expected, float[] found) {
        double largest = 0;
        for (int i = 0; i < expected.length; i++) {
            largest = Math.max(largest, Math.abs((double) expected[i] - found[i]));
        }
        return largest;
    }

    /** ‖values‖. */
    static double norm(float[] values) {
        double sum = 0;
        for (float v : values) {
            sum += (double) v * v;
        }
        return Math.sqrt(sum);
    }

    /** ‖found − expected‖ / ‖expected‖. */
    static double relative(float[] expected, float[] found) {
        double error = 0;
        double size = 0;
        for (int i = 0; i < expected.length; i++) {
            double d = (double) expected[i] - found[i];
            error += d * d;
            size += (double) expected[i] * expected[i];
        }
        return Math.sqrt(error / size);
    }
}
