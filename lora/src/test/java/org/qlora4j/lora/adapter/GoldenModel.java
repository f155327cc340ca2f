package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.tensor.DType;

/** A base model of golden/models and its rows. */
record GoldenModel(Path folder) {
    static final Path GOLDEN = Path.of(System.getProperty("qlora4j.golden"));
    static final ObjectMapper JSON = new ObjectMapper();

    static GoldenModel of(String name) {
        return new GoldenModel(GOLDEN.resolve("models").resolve(name));
    }

    Path base() {
        return folder.resolve("base");
    }

    static Transformer load(Path base, Device device, @Nullable Quantization quantization) {
        try (ModelSource source = ModelSource.open(base)) {
            return ModelLoader.load(
                    source, device, new ModelLoader.Options(DType.F32, quantization, 2), (done, all) -> {});
        }
    }

    Transformer load(Device device) {
        return load(base(), device, null);
    }

    List<Batch.Row> rows() throws IOException {
        List<Batch.Row> rows = new ArrayList<>();
        for (String line : Files.readAllLines(folder.resolve("batch.jsonl"))) {
            JsonNode row = JSON.readTree(line);
            rows.add(new Batch.Row(
                    JSON.convertValue(row.get("input_ids"), int[].class),
                    JSON.convertValue(row.get("labels"), int[].class)));
        }
        return rows;
    }

    static float[] values(Safetensors file, String name) {
        StoredTensor t = file.get(name);
        float[] values = new float[(int) t.elements()];
        file.readFloats(t, 0, values.length, values, 0);
        return values;
    }
}
