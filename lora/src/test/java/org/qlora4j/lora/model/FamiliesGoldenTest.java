package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.lora.export.GgufExport;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.GgufType;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;

/**
 * golden/families: all families with values of their configuration that golden/models does not have, as transformers
 * and PEFT compute them.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class FamiliesGoldenTest {
    private final Map<String, Device> devices = new HashMap<>();

    @TempDir
    Path folder;

    @AfterAll
    void close() {
        devices.values().forEach(Device::close);
    }

    private Device device(String name) {
        return devices.computeIfAbsent(name, n -> Devices.open(n, 1));
    }

    static List<Path> files() throws IOException {
        try (Stream<Path> files = Files.list(Path.of(System.getProperty("qlora4j.golden"), "families"))) {
            return files.sorted().toList();
        }
    }

    @ParameterizedTest
    @MethodSource("files")
    void asTransformersComputesIt(Path file) throws IOException {
        JsonNode golden = GoldenCase.JSON.readTree(file.toFile());
        int[][] rows = GoldenCase.JSON.convertValue(golden.get("rows"), int[][].class);
        for (String name : List.of("cpu", "reference")) {
            Device device = device(name);
            try (ModelSource source = source(golden);
                    Transformer model = load(source, device)) {
                double logits = 0;
                for (int i = 0; i < rows.length; i++) {
                    logits = Math.max(logits, apart(golden.get("logits").get(i), model.logits(rows[i])));
                }
                assertTrue(logits < 2e-4, name + ": logits differ by " + logits);
                double gradients = golden.has("loss") ? gradients(golden, model, rows) : 0;
                System.out.printf(
                        Locale.ROOT,
                        "golden %s on %s: logits within %.1e, gradients %.1e (relative)%n",
                        file.getFileName(),
                        name,
                        logits,
                        gradients);
            }
        }
    }

    /** Also where a row that grows long is turned by other frequencies from its beginning on. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "llama_dynamic_long_rows",
                "phi3_longrope",
                "gemma3",
                "smollm3_no_rope_layers",
                "qwen2_layer_types"
            })
    void severalSequencesAtOnce(String name) throws IOException {
        JsonNode golden =
                GoldenCase.JSON.readTree(Path.of(System.getProperty("qlora4j.golden"), "families", name + ".json")
                        .toFile());
        int[][] rows = GoldenCase.JSON.convertValue(golden.get("rows"), int[][].class);
        try (ModelSource source = source(golden);
                Transformer model = load(source, device("reference"))) {
            assertEquals(0, SeveralSequences.apart(model, List.of(rows)));
        }
    }

    static ModelSource source(JsonNode golden) {
        ObjectNode json = (ObjectNode) golden.get("config");
        ModelConfig config = ModelFamily.read(Path.of("config.json"), json);
        int experts = json.path("num_local_experts").asInt();
        return new ModelSource(
                Path.of("generated"),
                FamilyTensors.of(
                        golden.get("shapes"), experts, n -> n.endsWith("norm.weight") && !config.normAddsOne()),
                json,
                config);
    }

    static Transformer load(ModelSource source, Device device) {
        return ModelLoader.load(source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {});
    }

    /** The golden file has the last rows of logits. */
    private static double apart(JsonNode expected, float[] found) {
        int first = found.length - expected.size();
        double largest = 0;
        for (int i = 0; i < expected.size(); i++) {
            largest = Math.max(largest, Math.abs(expected.get(i).doubleValue() - found[first + i]));
        }
        return largest;
    }

    /** All tokens are labels; sums over the layers of each gradient's squares and of its product with a hash. */
    private double gradients(JsonNode golden, Transformer model, int[][] rows) throws IOException {
        Path saved = adapter(golden);
        try (LoraAdapter adapter = AdapterFiles.load(model, AdapterFiles.readConfig(saved), saved)) {
            List<Batch.Row> labelled = new ArrayList<>();
            for (int[] ids : rows) {
                labelled.add(new Batch.Row(ids, ids.clone()));
            }
            Batch batch = new Batch(labelled);
            adapter.parameters().zeroGradients();
            double loss = 0;
            for (double l : model.gradients(batch, 1.0 / batch.labelTokens(), 1)) {
                loss += l / batch.labelTokens();
            }
            assertEquals(golden.get("loss").doubleValue(), loss, 5e-5);
            Map<String, double[]> sums = new HashMap<>();
            adapter.byName().forEach((name, p) -> {
                float[] gradient = GoldenCase.download(model.device(), p.gradient());
                float[] hash = new float[gradient.length];
                FamilyTensors.generate(name, 0, hash.length, 1, hash, 0);
                double[] sum = sums.computeIfAbsent(name.replaceFirst(".*layers\\.\\d+\\.", ""), kind -> new double[2]);
                for (int i = 0; i < gradient.length; i++) {
                    sum[0] += (double) gradient[i] * gradient[i];
                    sum[1] += (double) gradient[i] * hash[i];
                }
            });
            assertEquals(golden.get("gradients").size(), sums.size());
            double worst = 0;
            for (Map.Entry<String, JsonNode> kind : golden.get("gradients").properties()) {
                double[] found = sums.getOrDefault(kind.getKey(), new double[2]);
                double length = Math.sqrt(kind.getValue().get(0).doubleValue());
                // the smallest gradients are what is left of much larger sums
                double scale = Math.max(length, 1e-3);
                worst = Math.max(worst, Math.abs(Math.sqrt(found[0]) - length) / scale);
                worst = Math.max(
                        worst, Math.abs(found[1] - kind.getValue().get(1).doubleValue()) / scale);
            }
            assertTrue(worst < 1e-4, "gradients differ by " + worst);
            return worst;
        }
    }

    private Path adapter(JsonNode golden) throws IOException {
        GeneratedTensors values = FamilyTensors.of(golden.get("adapter_shapes"), 1, name -> name.contains("magnitude"));
        Path saved = Files.createDirectories(folder.resolve("adapter"));
        GoldenCase.JSON.writeValue(saved.resolve("adapter_config.json").toFile(), golden.get("adapter_config"));
        List<TensorSpec> specs = new ArrayList<>();
        for (StoredTensor t : values.tensors().values()) {
            specs.add(TensorSpec.of(
                    t.name(),
                    DType.F32,
                    t.shape().stream().mapToLong(Long::longValue).toArray()));
        }
        SafetensorsWriter.write(saved.resolve(AdapterFiles.WEIGHTS), specs, (spec, sink) -> {
            StoredTensor t = values.get(spec.name());
            float[] numbers = new float[(int) t.elements()];
            values.readFloats(t, 0, numbers.length, numbers, 0);
            sink.writeFloats(numbers, 0, numbers.length);
        });
        return saved;
    }

    /** What can be written to GGUF computes the same from there, as far as its context reaches. */
    @ParameterizedTest
    @MethodSource("files")
    void theSameFromGguf(Path file) throws IOException {
        JsonNode golden = GoldenCase.JSON.readTree(file.toFile());
        int[][] rows = GoldenCase.JSON.convertValue(golden.get("rows"), int[][].class);
        Path gguf = folder.resolve("model.gguf");
        try (ModelSource source = source(golden);
                ChatText text = ChatText.load(folder)) {
            try {
                GgufExport.write(MergedWeights.of(source), text, GgufType.F32, "tiny", gguf);
            } catch (UnsupportedModelException e) {
                assertTrue(String.valueOf(e.getMessage()).contains("llama.cpp"), e.getMessage());
                return;
            }
            Device device = device("cpu");
            try (Transformer model = load(source, device);
                    ModelSource written = ModelSource.open(gguf);
                    Transformer back = load(written, device)) {
                for (int[] ids : rows) {
                    int n = Math.min(ids.length, written.config().maxPositionEmbeddings());
                    int[] first = java.util.Arrays.copyOf(ids, n);
                    double apart = GoldenCase.largest(model.logits(first), back.logits(first));
                    assertTrue(apart < 1e-5, "logits differ by " + apart); // factors of frequencies go through fp32
                }
            }
        }
    }
}
