package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.JsonNode;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import org.qlora4j.nf4.file.StorageType;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;

/**
 * Weights that are a hash of their name and place, as benchmarks/families.py makes them: {@code scale · [-1, 1)}, some
 * tensors around 1.
 */
record GeneratedTensors(Map<String, StoredTensor> tensors, float scale, Predicate<String> aroundOne)
        implements TensorFiles {
    /** @param templates names with # for the numbers of layers and experts, to shape and layers */
    static GeneratedTensors of(JsonNode templates, int experts, Predicate<String> aroundOne) {
        Map<String, StoredTensor> tensors = new LinkedHashMap<>();
        templates.properties().forEach(e -> {
            List<Long> shape = GoldenCase.JSON.convertValue(
                    e.getValue().get(0),
                    GoldenCase.JSON.getTypeFactory().constructCollectionType(List.class, Long.class));
            JsonNode layers = e.getValue().get(1);
            if (layers.isEmpty()) {
                add(tensors, e.getKey(), shape);
            }
            layers.forEach(layer -> {
                String name = e.getKey().replaceFirst("#", layer.asText());
                IntStream.range(0, name.contains("#") ? experts : 1)
                        .forEach(i -> add(tensors, name.replace("#", String.valueOf(i)), shape));
            });
        });
        return new GeneratedTensors(tensors, 0.2f, aroundOne);
    }

    private static void add(Map<String, StoredTensor> tensors, String name, List<Long> shape) {
        long bytes = shape.stream().reduce(4L, Math::multiplyExact);
        tensors.put(
                name, new StoredTensor(name, new StorageType.Plain(DType.F32), shape, Path.of("generated"), 0, bytes));
    }

    @Override
    public void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        generate(t.name(), firstElement, count, scale, dst, dstOffset);
        if (aroundOne.test(t.name())) {
            for (int i = dstOffset; i < dstOffset + count; i++) {
                dst[i] += 1;
            }
        }
    }

    static void generate(String name, long firstElement, int count, float scale, float[] dst, int dstOffset) {
        long seed = 0;
        for (byte letter : name.getBytes(StandardCharsets.UTF_8)) {
            seed = mix(seed ^ letter);
        }
        for (int i = 0; i < count; i++) {
            long hash = mix(seed ^ firstElement + i);
            dst[dstOffset + i] = ((hash >>> 40) - (1 << 23)) * 0x1p-23f * scale;
        }
    }

    private static long mix(long value) {
        long z = value + 0x9E3779B97F4A7C15L;
        z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
        z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
        return z ^ z >>> 31;
    }

    @Override
    public Path location() {
        return Path.of("generated");
    }

    @Override
    public Set<String> names() {
        return tensors.keySet();
    }

    @Override
    public Optional<StoredTensor> find(String name) {
        return Optional.ofNullable(tensors.get(name));
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        throw new UnsupportedOperationException("weights are generated as floats");
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        readBytes(t);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        readBytes(t);
    }

    @Override
    public void close() {}
}
