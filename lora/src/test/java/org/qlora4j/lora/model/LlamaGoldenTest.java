package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.AdapterMerge;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Every llama case against what transformers, peft and bitsandbytes computed; tolerances are those of golden/README.md.
 */
class LlamaGoldenTest {
    private static final double LOGITS = 2e-4;
    private static final double ROW_LOSS = 5e-5;
    private static final double GRADIENT = 1e-4;
    private static final double TRAINING_LOSS = 2e-3;
    private static final double FINAL_ADAPTER = 5e-3;
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

    /** One case, loaded. */
    private record Case(Path folder, Path shared, JsonNode expected, List<Batch.Row> rows) {
        static Case open(String name) throws IOException {
            Path folder = Path.of(System.getProperty("qlora4j.golden"), "models", name);
            Path shared = name.contains("/") ? folder.getParent() : folder;
            List<Batch.Row> rows = new ArrayList<>();
            for (String line : Files.readAllLines(shared.resolve("batch.jsonl"))) {
                JsonNode row = JSON.readTree(line);
                rows.add(new Batch.Row(
                        JSON.convertValue(row.get("input_ids"), int[].class),
                        JSON.convertValue(row.get("labels"), int[].class)));
            }
            return new Case(
                    folder,
                    shared,
                    JSON.readTree(folder.resolve("expected.json").toFile()),
                    rows);
        }

        Transformer load() {
            try (ModelSource source = ModelSource.open(folder.resolve("base"))) {
                return ModelLoader.load(source, device, new ModelLoader.Options(DType.F32, null, 2), (done, all) -> {});
            }
        }

        LoraAdapter attach(Transformer model) {
            Path adapter = shared.resolve("adapter_init");
            return AdapterFiles.load(model, AdapterFiles.readConfig(adapter), adapter);
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"llama", "llama_tied", "llama_4bit", "llama_4bit/nf4", "llama_4bit/nf4_dq", "llama_4bit/fp4_dq"})
    void logitsLossesAndGradients(String name) throws IOException {
        Case c = Case.open(name);
        try (Transformer model = c.load();
                Safetensors golden = Safetensors.open(c.folder.resolve("expected.safetensors"))) {
            int[] first = c.rows.getFirst().ids();
            assertArrayEquals(values(golden, "logits.base"), model.logits(first), (float) LOGITS);
            try (LoraAdapter adapter = c.attach(model)) {
                assertArrayEquals(values(golden, "logits.adapter"), model.logits(first), (float) LOGITS);
                int labels = 0;
                for (int i = 0; i < c.rows.size(); i++) {
                    Batch.Row row = c.rows.get(i);
                    labels += row.labelTokens();
                    assertEquals(
                            c.expected.path("rows").path(i).path("loss_adapter").doubleValue(),
                            mean(model.losses(new Batch(List.of(row)))),
                            ROW_LOSS,
                            "row " + i);
                }
                adapter.parameters().zeroGradients();
                model.gradients(new Batch(c.rows), 1.0 / labels, 1);
                for (Map.Entry<String, Parameter> e : adapter.byName().entrySet()) {
                    String key = golden.names().contains(e.getKey()) ? e.getKey() : "grad." + e.getKey();
                    double error =
                            relative(values(golden, key), download(e.getValue().gradient()));
                    assertTrue(error < GRADIENT, e.getKey() + ": relative error " + error);
                }
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "llama_tied", "llama_4bit/nf4_dq"})
    void checkpointingChangesNoBitAndAccumulationIsABatch(String name) throws IOException {
        Case c = Case.open(name);
        try (Transformer model = c.load();
                LoraAdapter adapter = c.attach(model)) {
            int labels = c.rows.stream().mapToInt(Batch.Row::labelTokens).sum();
            adapter.parameters().zeroGradients();
            model.gradients(new Batch(c.rows), 1.0 / labels, 7);
            float[] plain = download(adapter.parameters().gradients());
            model.setGradientCheckpointing(true);
            adapter.parameters().zeroGradients();
            model.gradients(new Batch(c.rows), 1.0 / labels, 7);
            assertArrayEquals(plain, download(adapter.parameters().gradients()));
            adapter.parameters().zeroGradients();
            for (Batch.Row row : c.rows) {
                model.gradients(new Batch(List.of(row)), 1.0 / labels, 7);
            }
            double error = relative(plain, download(adapter.parameters().gradients()));
            assertTrue(error < 1e-6, "accumulated against batch: relative error " + error);
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"llama", "llama_tied", "llama_4bit", "llama_4bit/nf4", "llama_4bit/nf4_dq", "llama_4bit/fp4_dq"})
    void tenTrainingSteps(String name) throws IOException {
        Case c = Case.open(name);
        JsonNode train = c.expected.path("train");
        JsonNode hyper = train.path("hyper");
        try (Transformer model = c.load();
                LoraAdapter adapter = c.attach(model);
                Scope scope = device.newScope()) {
            int n = adapter.parameters().values().cols();
            OptimizerRule rule = new OptimizerRule.AdamW(
                    hyper.path("betas").path(0).doubleValue(),
                    hyper.path("betas").path(1).doubleValue(),
                    hyper.path("eps").doubleValue(),
                    hyper.path("weight_decay").doubleValue(),
                    true);
            OptimizerState state = OptimizerState.Full.allocate(scope, rule, n);
            device.ops().fill(state.state1(), 0);
            device.ops().fill(state.state2(), 0);
            for (JsonNode step : train.path("steps")) {
                int s = step.path("step").intValue();
                Batch batch = new Batch(List.of(c.rows.get(step.path("row").intValue())));
                adapter.parameters().zeroGradients();
                double loss = mean(model.gradients(batch, 1.0 / batch.labelTokens(), s));
                assertEquals(step.path("loss").doubleValue(), loss, TRAINING_LOSS, "step " + s);
                double norm =
                        Math.sqrt(device.ops().sumOfSquares(adapter.parameters().gradients()));
                double clip = Math.min(1, hyper.path("max_grad_norm").doubleValue() / (norm + 1e-6));
                device.ops()
                        .optimizerStep(
                                adapter.parameters().values(),
                                adapter.parameters().gradients(),
                                state,
                                new OptimizerStep(rule, s, hyper.path("lr").doubleValue(), clip));
            }
            Path last = c.folder.resolve("adapter_final");
            try (Safetensors golden = Safetensors.open(last.resolve(AdapterFiles.WEIGHTS))) {
                for (Map.Entry<String, Parameter> e : adapter.byName().entrySet()) {
                    assertArrayEquals(
                            values(golden, e.getKey()),
                            download(e.getValue().value()),
                            (float) FINAL_ADAPTER,
                            e.getKey());
                }
            }
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"llama", "llama_tied", "llama_4bit", "llama_4bit/nf4", "llama_4bit/nf4_dq", "llama_4bit/fp4_dq"})
    void greedyTokensWithTheCache(String name) throws IOException {
        Case c = Case.open(name);
        JsonNode greedy = c.expected.path("greedy");
        try (Transformer model = c.load();
                LoraAdapter adapter = c.attach(model);
                Scope scope = device.newScope()) {
            assertTrue(adapter.parameters().count() > 0, name);
            int prompt = greedy.path("prompt_tokens").intValue();
            int[] ids = java.util.Arrays.copyOf(
                    c.rows.get(greedy.path("row").intValue()).ids(), prompt);
            KvCache cache = model.newCache(prompt + greedy.path("new_tokens").size(), scope);
            for (JsonNode expected : greedy.path("new_tokens")) {
                float[] logits = model.nextLogits(ids, cache);
                int best = 0;
                for (int i = 1; i < logits.length; i++) {
                    if (logits[i] > logits[best]) {
                        best = i;
                    }
                }
                assertEquals(expected.intValue(), best);
                ids = new int[] {best};
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "llama_tied", "llama_4bit"})
    void theMergedModelAnswersAsTheAdapter(String name, @TempDir Path folder) throws IOException {
        Case c = Case.open(name);
        int[] ids = c.rows.getFirst().ids();
        Path merged = folder.resolve("merged");
        try (Transformer model = c.load();
                LoraAdapter adapter = c.attach(model);
                ModelSource source = ModelSource.open(c.folder.resolve("base"))) {
            AdapterMerge.write(adapter, source, DType.F32, merged);
        }
        try (ModelSource source = ModelSource.open(merged);
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 2), (done, all) -> {});
                Safetensors golden = Safetensors.open(c.folder.resolve("expected.safetensors"))) {
            assertArrayEquals(values(golden, "logits.adapter"), model.logits(ids), (float) LOGITS);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "llama_tied", "llama_4bit"})
    void savedAdaptersHaveThePeftFiles(String name, @TempDir Path folder) throws IOException {
        Case c = Case.open(name);
        try (Transformer model = c.load();
                LoraAdapter adapter = c.attach(model)) {
            AdapterFiles.save(adapter, "golden/" + c.shared.getFileName(), folder);
            assertEquals(
                    JSON.readTree(
                            c.shared.resolve("adapter_init/adapter_config.json").toFile()),
                    JSON.readTree(folder.resolve(AdapterFiles.CONFIG).toFile()));
            try (Safetensors expected =
                            Safetensors.open(c.shared.resolve("adapter_init").resolve(AdapterFiles.WEIGHTS));
                    Safetensors found = Safetensors.open(folder.resolve(AdapterFiles.WEIGHTS))) {
                assertEquals(expected.names(), found.names());
                for (String tensor : expected.names()) {
                    assertEquals(expected.get(tensor).type(), found.get(tensor).type(), tensor);
                    assertArrayEquals(values(expected, tensor), values(found, tensor), tensor);
                }
            }
        }
    }

    private static double mean(float[] losses) {
        double sum = 0;
        for (float l : losses) {
            sum += l;
        }
        return sum / losses.length;
    }

    private static float[] values(Safetensors file, String name) {
        StoredTensor t = file.get(name);
        float[] values = new float[(int) t.elements()];
        file.readFloats(t, 0, values.length, values, 0);
        return values;
    }

    private static float[] download(Tensor t) {
        float[] values = new float[(int) t.numel()];
        device.download(t, values, 0);
        return values;
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
