package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.tensor.DType;

/**
 * Weights that are a hash of their name and place, as benchmarks/families.py makes them: {@code scale · [-1, 1)}, some
 * tensors around 1.
 */
final class FamilyTensors {
    private static final float SCALE = 0.2f;

    private FamilyTensors() {}

    /** @param templates names with # for the numbers of layers and experts, to shape and layers */
    static GeneratedTensors of(JsonNode templates, int experts, Predicate<String> aroundOne) {
        Map<String, StoredTensor> tensors = new LinkedHashMap<>();
        templates.properties().forEach(e -> {
            List<Long> shape = GoldenCase.JSON.convertValue(
                    e.getValue().get(0),
                    GoldenCase.JSON.getTypeFactory().constructCollectionType(List.class, Long.class));
            JsonNode layers = e.getValue().get(1);
            if (layers.isEmpty()) {
                tensors.put(e.getKey(), GeneratedTensors.tensor(e.getKey(), DType.F32, shape));
            }
            layers.forEach(layer -> {
                String template = e.getKey().replaceFirst("#", layer.asText());
                IntStream.range(0, template.contains("#") ? experts : 1).forEach(i -> {
                    String name = template.replace("#", String.valueOf(i));
                    tensors.put(name, GeneratedTensors.tensor(name, DType.F32, shape));
                });
            });
        });
        return new GeneratedTensors(tensors, (t, first, count, dst, offset) -> {
            generate(t.name(), first, count, SCALE, dst, offset);
            if (aroundOne.test(t.name())) {
                for (int i = offset; i < offset + count; i++) {
                    dst[i] += 1;
                }
            }
        });
    }

    static void generate(String name, long firstElement, int count, float scale, float[] dst, int dstOffset) {
        long seed = 0;
        for (byte letter : name.getBytes(StandardCharsets.UTF_8)) {
            seed = next(seed ^ letter);
        }
        for (int i = 0; i < count; i++) {
            long hash = next(seed ^ firstElement + i);
            dst[dstOffset + i] = ((hash >>> 40) - (1 << 23)) * 0x1p-23f * scale;
        }
    }

    private static long next(long value) {
        return GeneratedTensors.mix(value + 0x9E3779B97F4A7C15L);
    }
}
