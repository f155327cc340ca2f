package org.qlora4j.lora.adapter;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.lora.adapter.GoldenModel.GOLDEN;
import static org.qlora4j.lora.adapter.GoldenModel.values;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.export.HuggingFaceExport;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;

/** One adapter for each of PEFT's options: what PEFT wrote and what it computes (golden/make_adapters.py). */
class AdapterGoldenTest {
    private static final double LOGITS = 2e-4;
    private static final double ROW_LOSS = 5e-5;
    private static final double GRADIENT = 1e-4;
    private static final ObjectMapper JSON = new ObjectMapper();

    private static Device device;

    @BeforeAll
    static void open() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        device = Devices.open("cpu", 2);
    }

    @AfterAll
    static void close() {
        device.close();
    }

    static List<String> cases() throws IOException {
        try (Stream<Path> folders = Files.list(GOLDEN.resolve("adapters"))) {
            return folders.filter(Files::isDirectory)
                    .map(f -> f.getFileName().toString())
                    .sorted()
                    .toList();
        }
    }

    private static Path base(Path adapter) throws IOException {
        String base = JSON.readTree(adapter.resolve("case.json").toFile())
                .path("base")
                .textValue();
        return GOLDEN.resolve("models").resolve(base);
    }

    private static Transformer load(Path folder) {
        return GoldenModel.load(folder, device, null);
    }

    private static List<Batch.Row> rows(Path base) throws IOException {
        return new GoldenModel(base).rows();
    }

    @ParameterizedTest
    @MethodSource("cases")
    void computesWhatPeftComputes(String name) throws IOException {
        Path folder = GOLDEN.resolve("adapters").resolve(name);
        List<Batch.Row> rows = rows(base(folder));
        try (Transformer model = load(base(folder).resolve("base"));
                LoraAdapter adapter = AdapterFiles.load(model, AdapterFiles.readConfig(folder), folder);
                Safetensors golden = Safetensors.open(folder.resolve("expected.safetensors"))) {
            assertLogits(golden, model, rows);
            float[] losses = values(golden, "losses");
            int labels = 0;
            for (int i = 0; i < rows.size(); i++) {
                labels += rows.get(i).labelTokens();
                assertEquals(losses[i], mean(model.losses(new Batch(List.of(rows.get(i))))), ROW_LOSS, "row " + i);
            }
            for (boolean checkpointing : new boolean[] {false, true}) {
                model.setGradientCheckpointing(checkpointing);
                adapter.parameters().zeroGradients();
                model.gradients(new Batch(rows), 1.0 / labels, 1);
                for (Map.Entry<String, Parameter> e : adapter.byName().entrySet()) {
                    assertGradient(golden, e.getKey(), e.getValue());
                }
            }
        }
    }

    private static void assertLogits(Safetensors golden, Transformer model, List<Batch.Row> rows) {
        float[] logits = model.logits(rows.getFirst().ids());
        float[] last = values(golden, "logits");
        assertArrayEquals(last, Arrays.copyOfRange(logits, logits.length - last.length, logits.length), (float) LOGITS);
    }

    private static void assertGradient(Safetensors golden, String name, Parameter p) {
        float[] found = new float[(int) p.value().numel()];
        device.download(p.gradient(), found, 0);
        if (name.endsWith("lora_embedding_A")) {
            found = FileTensor.transposed(found, p.value().rows(), p.value().cols());
        }
        float[] expected = values(golden, "grad." + name);
        if (golden.names().contains("grad_norm." + name)) {
            double squares = 0;
            for (float g : found) {
                squares += (double) g * g;
            }
            float norm = values(golden, "grad_norm." + name)[0];
            assertEquals(norm, Math.sqrt(squares), GRADIENT * norm, name);
            found = Arrays.copyOf(found, expected.length);
        }
        double error = relative(expected, found);
        assertTrue(error < GRADIENT, name + ": relative error " + error);
    }

    @ParameterizedTest
    @MethodSource("cases")
    void writesWhatPeftWrote(String name, @TempDir Path written) throws IOException {
        Path folder = GOLDEN.resolve("adapters").resolve(name);
        try (Transformer model = load(base(folder).resolve("base"));
                LoraAdapter adapter = AdapterFiles.load(model, AdapterFiles.readConfig(folder), folder)) {
            AdapterFiles.save(adapter, AdapterFiles.baseModel(folder), written);
        }
        JsonNode expectedConfig =
                JSON.readTree(folder.resolve(AdapterFiles.CONFIG).toFile());
        JsonNode config = JSON.readTree(written.resolve(AdapterFiles.CONFIG).toFile());
        expectedConfig
                .properties()
                .forEach(
                        e -> assertEquals(sameMeaning(e.getValue()), sameMeaning(config.path(e.getKey())), e.getKey()));
        try (Safetensors expected = Safetensors.open(folder.resolve(AdapterFiles.WEIGHTS));
                Safetensors found = Safetensors.open(written.resolve(AdapterFiles.WEIGHTS))) {
            for (String tensor : expected.names()) {
                assertEquals(expected.get(tensor).shape(), found.get(tensor).shape(), tensor);
                assertArrayEquals(values(expected, tensor), values(found, tensor), tensor);
            }
        }
    }

    @Test
    void theFrozenMatrixThatPeftWritesTooIsPassedOver(@TempDir Path temp) throws IOException {
        Path folder = GOLDEN.resolve("adapters/lm_head_lora");
        Files.copy(folder.resolve(AdapterFiles.CONFIG), temp.resolve(AdapterFiles.CONFIG));
        Map<String, float[]> values = new TreeMap<>();
        List<TensorSpec> specs = new ArrayList<>();
        try (Safetensors file = Safetensors.open(folder.resolve(AdapterFiles.WEIGHTS))) {
            for (String name : file.names()) {
                values.put(name, values(file, name));
                specs.add(new TensorSpec(name, DType.F32, file.get(name).shape()));
            }
        }
        String frozen = "base_model.model.lm_head.base_layer.weight";
        values.put(frozen, new float[320 * 48]);
        specs.add(TensorSpec.of(frozen, DType.F32, 320, 48));
        SafetensorsWriter.write(
                temp.resolve(AdapterFiles.WEIGHTS),
                specs,
                (spec, sink) -> sink.writeFloats(values.get(spec.name()), 0, (int) spec.elements()));
        try (Transformer model = load(base(folder).resolve("base"));
                LoraAdapter adapter = AdapterFiles.load(model, AdapterFiles.readConfig(temp), temp);
                Safetensors golden = Safetensors.open(folder.resolve("expected.safetensors"))) {
            assertLogits(golden, model, rows(base(folder)));
            assertEquals(3, adapter.targets().size());
        }
        specs.removeLast();
        specs.add(TensorSpec.of("base_model.model.lm_head.other.weight", DType.F32, 1));
        values.put("base_model.model.lm_head.other.weight", new float[1]);
        SafetensorsWriter.write(
                temp.resolve(AdapterFiles.WEIGHTS),
                specs,
                (spec, sink) -> sink.writeFloats(values.get(spec.name()), 0, (int) spec.elements()));
        try (Transformer model = load(base(folder).resolve("base"))) {
            String message = assertThrows(
                            ModelFormatException.class,
                            () -> AdapterFiles.load(model, AdapterFiles.readConfig(temp), temp))
                    .getMessage();
            assertTrue(message.contains("not expected 1 (base_model.model.lm_head.other.weight)"), message);
        }
    }

    @ParameterizedTest
    @MethodSource("cases")
    void theMergedModelAnswersAsTheAdapter(String name, @TempDir Path temp) throws IOException {
        Path folder = GOLDEN.resolve("adapters").resolve(name);
        Path base = base(folder).resolve("base");
        Path merged = temp.resolve("merged");
        boolean biasless = false;
        try (Transformer model = load(base);
                LoraAdapter adapter = AdapterFiles.load(model, AdapterFiles.readConfig(folder), folder);
                ModelSource source = ModelSource.open(base)) {
            biasless = adapter.config().loraBias();
            if (biasless) {
                // up_proj has no bias to merge into
                String message = assertThrows(
                                IllegalArgumentException.class,
                                () -> HuggingFaceExport.write(MergedWeights.of(source, adapter), DType.F32, merged))
                        .getMessage();
                assertTrue(message.contains("lora_bias of a layer without bias"), message);
            } else {
                HuggingFaceExport.write(MergedWeights.of(source, adapter), DType.F32, merged);
            }
        }
        if (!biasless) {
            try (Transformer model = load(merged);
                    Safetensors golden = Safetensors.open(folder.resolve("expected.safetensors"))) {
                assertLogits(golden, model, rows(base(folder)));
            }
        }
    }

    /** A single layer number is written as a list of one, token ids of the embedding alone as a list. */
    private static String sameMeaning(JsonNode value) {
        return value.toString().replaceAll("^\\[(\\d+)]$", "$1").replaceAll("^\\{\"embed_tokens\":(.*)}$", "$1");
    }

    private static double mean(double[] losses) {
        double sum = 0;
        for (double l : losses) {
            sum += l;
        }
        return sum / losses.length;
    }

    private static double relative(float[] expected, float[] found) {
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
