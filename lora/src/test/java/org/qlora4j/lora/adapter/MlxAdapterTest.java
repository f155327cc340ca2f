package org.qlora4j.lora.adapter;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.lora.adapter.GoldenModel.GOLDEN;
import static org.qlora4j.lora.adapter.GoldenModel.values;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;

/** A PEFT adapter as mlx-lm would write it gives the same logits. */
class MlxAdapterTest {
    private static final String PEFT = "base_model.model.";

    /** Writes the adapter of a golden case with mlx-lm's names and transposed matrices. */
    private static void write(Path peft, Path mlx, double scale, String type) throws IOException {
        Map<String, float[]> values = new LinkedHashMap<>();
        List<TensorSpec> specs = new ArrayList<>();
        try (Safetensors file = Safetensors.open(peft.resolve(AdapterFiles.WEIGHTS))) {
            for (String name : file.names()) {
                StoredTensor t = file.get(name);
                String own = name.substring(PEFT.length())
                        .replace("lora_A.weight", "lora_a")
                        .replace("lora_B.weight", "lora_b")
                        .replace("lora_magnitude_vector", "m");
                float[] v = values(file, name);
                if (t.rank() == 2) {
                    int rows = (int) t.dim(0);
                    int cols = (int) t.dim(1);
                    float[] transposed = new float[v.length];
                    for (int i = 0; i < v.length; i++) {
                        transposed[i % cols * rows + i / cols] = v[i];
                    }
                    specs.add(TensorSpec.of(own, DType.F32, cols, rows));
                    values.put(own, transposed);
                } else {
                    specs.add(TensorSpec.of(own, DType.F32, v.length));
                    values.put(own, v);
                }
            }
        }
        SafetensorsWriter.write(mlx.resolve("adapters.safetensors"), specs, (spec, sink) -> {
            float[] v = values.get(spec.name());
            sink.writeFloats(v, 0, v.length);
        });
        Files.writeString(
                mlx.resolve("adapter_config.json"),
                "{\"fine_tune_type\": \"" + type + "\", \"num_layers\": 2, \"model\": \"some/base\", "
                        + "\"lora_parameters\": {\"rank\": 2, \"dropout\": 0.0, \"scale\": " + scale + "}}");
    }

    @ParameterizedTest
    @CsvSource({"layers_pattern,lora,2", "dora,dora,2", "dora_rslora_patterns,dora,2.828427"})
    void readsWhatMlxWrites(String name, String type, double scale, @TempDir Path mlx) throws IOException {
        Path peft = GOLDEN.resolve("adapters").resolve(name);
        write(peft, mlx, scale, type);
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        GoldenModel llama = GoldenModel.of("llama_tied");
        LoraConfig config = AdapterFiles.readConfig(mlx);
        assertEquals("some/base", AdapterFiles.baseModel(mlx));
        try (Device device = Devices.open("cpu", 2);
                Transformer model = llama.load(device)) {
            if (name.equals("dora_rslora_patterns")) {
                // one scale for all there: only names and shapes are the same
                try (LoraAdapter adapter = AdapterFiles.load(model, config, mlx)) {
                    assertEquals(3, config.rank("model.layers.1.mlp.up_proj"));
                    assertEquals(scale, config.scale("model.layers.1.mlp.up_proj"), 1e-9);
                    assertEquals(3, adapter.targets().size());
                }
                return;
            }
            try (LoraAdapter adapter = AdapterFiles.load(model, config, mlx);
                    Safetensors golden = Safetensors.open(peft.resolve("expected.safetensors"))) {
                float[] expected = values(golden, "logits");
                float[] logits = model.logits(llama.rows().getFirst().ids());
                assertArrayEquals(
                        expected, Arrays.copyOfRange(logits, logits.length - expected.length, logits.length), 2e-4f);
                assertTrue(adapter.parameters().count() > 0);
            }
        }
        Files.writeString(mlx.resolve("adapter_config.json"), "{\"fine_tune_type\": \"full\"}");
        String message = assertThrows(ModelFormatException.class, () -> AdapterFiles.readConfig(mlx))
                .getMessage();
        assertTrue(message.contains("fine_tune_type full is not supported; supported: lora, dora"), message);
    }
}
