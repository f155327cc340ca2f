package org.qlora4j.nf4.file;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class GgufWriterTest {
    @TempDir
    Path folder;

    private static Safetensors quantized() throws URISyntaxException {
        return Safetensors.open(
                Path.of(Objects.requireNonNull(GgufWriterTest.class.getResource("gguf_quantized.safetensors"))
                        .toURI()));
    }

    private static float[] floats(TensorFiles files, String name) {
        StoredTensor t = files.get(name);
        float[] values = new float[(int) t.elements()];
        files.readFloats(t, 0, values.length, values, 0);
        return values;
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8_0", "Q4_0"})
    void quantizesToTheBytesOfGgml(GgufType type) throws URISyntaxException {
        Path file = folder.resolve("q.gguf");
        try (Safetensors golden = quantized()) {
            float[] values = floats(golden, "values");
            GgufWriter.write(file, Map.of(), List.of(GgufTensor.of("w", type, 1, values.length)), (tensor, sink) -> {
                sink.writeFloats(values, 0, 96);
                sink.writeFloats(values, 96, values.length - 96);
            });
            try (Gguf gguf = Gguf.open(file)) {
                assertArrayEquals(golden.readBytes(golden.get(type.name())), gguf.readBytes(gguf.get("w")));
            }
        }
    }

    @Test
    void whatIsWrittenIsRead() {
        Map<String, Object> metadata = new LinkedHashMap<>();
        metadata.put("general.architecture", "llama");
        metadata.put("a.count", 7);
        metadata.put("a.eps", 1e-5f);
        metadata.put("a.flag", true);
        metadata.put("a.texts", List.of("", "▁grüße"));
        metadata.put("a.types", List.of(1, -3));
        metadata.put("a.scores", List.of(0.5f, -1e6f));
        metadata.put("a.nothing", List.of());
        float[] values = {1f, -2.5f, 3e-5f, 65504f, 0.1f};
        List<GgufTensor> tensors = List.of(
                GgufTensor.of("f32", GgufType.F32, 5),
                GgufTensor.of("f16", GgufType.F16, 1, 5),
                GgufTensor.of("bf16", GgufType.BF16, 5, 1));
        Path file = folder.resolve("all.gguf");
        GgufWriter.write(file, metadata, tensors, (tensor, sink) -> sink.writeFloats(values, 0, 5));
        try (Gguf gguf = Gguf.open(file)) {
            assertEquals(3, gguf.version());
            assertEquals(7L, gguf.metadata().get("a.count"));
            assertEquals((double) 1e-5f, gguf.metadata().get("a.eps"));
            assertEquals(true, gguf.metadata().get("a.flag"));
            assertEquals(List.of("", "▁grüße"), gguf.metadata().get("a.texts"));
            assertEquals(List.of(1L, -3L), gguf.metadata().get("a.types"));
            assertEquals(List.of(0.5, -1e6), gguf.metadata().get("a.scores"));
            assertEquals(List.of(), gguf.metadata().get("a.nothing"));
            assertEquals(
                    List.copyOf(metadata.keySet()), List.copyOf(gguf.metadata().keySet()));
            assertEquals(List.of(1L, 5L), gguf.get("f16").shape());
            for (GgufTensor tensor : tensors) {
                float[] expected = values.clone();
                FloatFormats.round(tensor.type().dtype().orElseThrow(), expected, 0, 5);
                assertArrayEquals(expected, floats(gguf, tensor.name()));
                assertEquals(0, gguf.get(tensor.name()).offset() % 32);
            }
        }
    }

    @Test
    void aHalfWrittenTensorLeavesNoFile() {
        Path file = folder.resolve("half.gguf");
        List<GgufTensor> tensors = List.of(GgufTensor.of("w", GgufType.Q8_0, 2, 32));
        assertThrows(
                IllegalStateException.class,
                () -> GgufWriter.write(
                        file, Map.of(), tensors, (tensor, sink) -> sink.writeFloats(new float[32], 0, 32)));
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class,
                () -> GgufWriter.write(
                        file, Map.of(), tensors, (tensor, sink) -> sink.writeFloats(new float[32], 0, 31)));
        assertTrue(e.getMessage().contains("blocks of 32; got 31"), e.getMessage());
        assertFalse(Files.exists(file));
    }

    @Test
    void whatGgmlCannotHoldIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> GgufTensor.of("w".repeat(64), GgufType.F32, 1));
        assertThrows(IllegalArgumentException.class, () -> GgufTensor.of("w", GgufType.F32, 1, 1, 1, 1, 1));
        assertThrows(IllegalArgumentException.class, () -> GgufTensor.of("w", GgufType.F32, 0));
        assertThrows(IllegalArgumentException.class, () -> GgufTensor.of("w", GgufType.Q8_0, 4, 33));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> GgufTensor.of("w", GgufType.Q4_K, 256))
                .getMessage()
                .contains("Q4_K cannot be written"));
        List<GgufTensor> twice = List.of(GgufTensor.of("w", GgufType.F32, 1), GgufTensor.of("w", GgufType.F32, 1));
        Path file = folder.resolve("x.gguf");
        assertThrows(
                IllegalArgumentException.class, () -> GgufWriter.write(file, Map.of(), twice, (tensor, sink) -> {}));
        assertThrows(
                IllegalArgumentException.class,
                () -> GgufWriter.write(file, Map.of("k", List.of(1, "a")), List.of(), (tensor, sink) -> {}));
        assertThrows(
                IllegalArgumentException.class,
                () -> GgufWriter.write(file, Map.of("k", 1.5), List.of(), (tensor, sink) -> {}));
    }
}
