package org.qlora4j.nf4.file;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.nf4.tensor.DType;

class SafetensorsTest {
    @TempDir
    Path folder;

    private static float[] floats(int count, long seed) {
        SplittableRandom random = new SplittableRandom(seed);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextDouble(-4, 4);
        }
        return values;
    }

    private Path write(String name, DType dtype, float[] values, long... shape) {
        Path file = folder.resolve(name);
        SafetensorsWriter.write(
                file,
                List.of(TensorSpec.of("w", dtype, shape)),
                (tensor, sink) -> sink.writeFloats(values, 0, values.length));
        return file;
    }

    @ParameterizedTest
    @EnumSource(names = {"F32", "F16", "BF16", "F64"})
    void floatsRoundTripAcrossBuffers(DType dtype) {
        // 700_003 elements are more than one buffer of the writer and of the reader
        float[] values = floats(700_003, 5);
        try (Safetensors files = Safetensors.open(write("a.safetensors", dtype, values, 700_003))) {
            StoredTensor w = files.get("w");
            assertEquals(new StorageType.Plain(dtype), w.type());
            float[] back = new float[values.length];
            files.readFloats(w, 0, values.length, back, 0);
            float[] part = new float[10];
            files.readFloats(w, 699_999, 4, part, 3);
            for (int i = 0; i < values.length; i++) {
                float expected = switch (dtype) {
                    case F16 -> Float.float16ToFloat(Float.floatToFloat16(values[i]));
                    case BF16 -> FloatFormats.bf16ToFloat(FloatFormats.floatToBf16(values[i]));
                    default -> values[i];
                };
                assertEquals(expected, back[i], dtype + " seed 5 element " + i);
            }
            assertEquals(back[700_002], part[6]);
            assertEquals(0, part[2]);
            assertEquals(0, part[7]);
        }
    }

    @Test
    void bytesRoundTripInAllForms() {
        byte[] bytes = new byte[3_000_001];
        new Random(3).nextBytes(bytes);
        Path file = folder.resolve("a.safetensors");
        List<TensorSpec> specs = List.of(
                TensorSpec.of("array", DType.U8, bytes.length),
                TensorSpec.of("buffer", DType.I8, bytes.length),
                TensorSpec.of("segment", DType.U8, bytes.length),
                TensorSpec.of("native", DType.U8, 1, bytes.length));
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment outside = arena.allocate(bytes.length);
            outside.copyFrom(MemorySegment.ofArray(bytes));
            SafetensorsWriter.write(file, specs, (tensor, sink) -> {
                switch (tensor.name()) {
                    case "array" -> sink.write(bytes);
                    case "buffer" -> sink.write(ByteBuffer.wrap(bytes));
                    case "segment" -> sink.write(MemorySegment.ofArray(bytes));
                    default -> sink.write(outside);
                }
            });
            try (Safetensors files = Safetensors.open(file)) {
                for (String name : List.of("array", "buffer", "segment", "native")) {
                    assertArrayEquals(bytes, files.readBytes(files.get(name)), name);
                }
                MemorySegment back = arena.allocate(bytes.length - 5);
                files.readBytes(files.get("native"), 5, back);
                assertEquals(bytes[5], back.get(ValueLayout.JAVA_BYTE, 0));
                assertEquals(bytes[bytes.length - 1], back.get(ValueLayout.JAVA_BYTE, bytes.length - 6));
                float[] heap = new float[2];
                files.readBytes(files.get("array"), 9, MemorySegment.ofArray(heap));
                assertEquals(
                        ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()).getFloat(13), heap[1]);
                ByteBuffer direct = ByteBuffer.allocateDirect(7);
                files.readBytes(files.get("buffer"), 1_048_570, direct);
                assertEquals(bytes[1_048_576], direct.get(6));
            }
        }
    }

    @Test
    void everyTensorIsAligned() throws IOException {
        Path file = folder.resolve("a.safetensors");
        List<TensorSpec> specs = List.of(
                TensorSpec.of("bytes", DType.U8, 3),
                TensorSpec.of("f", DType.F32, 2, 1),
                TensorSpec.of("odd", DType.F32, 3),
                TensorSpec.of("s", DType.I64));
        SafetensorsWriter.write(file, specs, (tensor, sink) -> sink.write(new byte[(int) tensor.byteLength()]));
        ByteBuffer all = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        int length = (int) all.getLong(0);
        String json = new String(all.array(), 8, length, StandardCharsets.UTF_8);
        assertEquals(0, length % 8);
        // sizes of whole 8 bytes in the given order, then the others, wide elements first
        assertEquals(
                "{\"__metadata__\":{\"format\":\"pt\"},"
                        + "\"f\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                        + "\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[8,16]},"
                        + "\"odd\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[16,28]},"
                        + "\"bytes\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[28,31]}}",
                json.stripTrailing());
        assertEquals(8 + length + 31, all.capacity());
        try (Safetensors files = Safetensors.open(file)) {
            assertEquals(Map.of("format", "pt"), files.metadata());
            assertEquals(List.of("f", "s", "odd", "bytes"), List.copyOf(files.names()));
            assertEquals(0, files.get("s").rank());
            assertEquals(1, files.get("s").elements());
        }
    }

    @Test
    void emptyTensorsAndFiles() {
        Path none = folder.resolve("none.safetensors");
        SafetensorsWriter.write(none, Map.of(), List.of(), (tensor, sink) -> {});
        Path empty = write("empty.safetensors", DType.F32, new float[0], 0, 5);
        try (Safetensors a = Safetensors.open(none);
                Safetensors b = Safetensors.open(empty)) {
            assertTrue(a.names().isEmpty());
            assertEquals(0, b.get("w").byteLength());
            assertEquals(0, b.readBytes(b.get("w")).length);
        }
    }

    @Test
    void tooFewOrTooManyBytesAreRefusedAndNothingStays() throws IOException {
        List<TensorSpec> specs = List.of(TensorSpec.of("w", DType.F32, 3));
        Path file = folder.resolve("a.safetensors");
        IllegalStateException few = assertThrows(
                IllegalStateException.class,
                () -> SafetensorsWriter.write(file, specs, (t, sink) -> sink.writeFloats(new float[2], 0, 2)));
        assertTrue(few.getMessage().contains("'w'") && few.getMessage().contains("4 of 12"), few.getMessage());
        assertThrows(
                IllegalStateException.class,
                () -> SafetensorsWriter.write(file, specs, (t, sink) -> sink.write(new byte[13])));
        UncheckedIOException broken = assertThrows(
                UncheckedIOException.class,
                () -> SafetensorsWriter.write(file, specs, (t, sink) -> {
                    throw new IOException("No space left on device");
                }));
        assertTrue(broken.getMessage().contains(file.toString()), broken.getMessage());
        assertEquals(List.of(), listing());
    }

    @Test
    void duplicateReservedAndImpossibleTensorsAreRefused() {
        TensorSpec w = TensorSpec.of("w", DType.F32, 1);
        assertThrows(
                IllegalArgumentException.class,
                () -> SafetensorsWriter.write(folder.resolve("a"), List.of(w, w), (t, sink) -> {}));
        assertThrows(IllegalArgumentException.class, () -> TensorSpec.of("__metadata__", DType.F32, 1));
        assertThrows(IllegalArgumentException.class, () -> TensorSpec.of("w", DType.F32, -1));
        assertThrows(IllegalArgumentException.class, () -> TensorSpec.of("w", DType.F32, 1L << 32, 1L << 31));
    }

    @Test
    void shardsAreSplitInOrderAndReadAsOneModel() throws IOException {
        List<TensorSpec> specs = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            specs.add(TensorSpec.of("layer." + i, i == 3 ? DType.F32 : DType.BF16, 10, i == 3 ? 10 : 2));
        }
        // 40 bytes each, layer.3 has 400: more than a shard may hold
        SafetensorsWriter.Source source = (t, sink) ->
                sink.writeFloats(floats((int) t.elements(), t.name().hashCode()), 0, (int) t.elements());
        Path model = folder.resolve("model");
        ShardedWriter.write(model, 100, SafetensorsWriter.PT_METADATA, specs, source);
        try (Stream<Path> files = Files.list(model)) {
            assertEquals(
                    List.of(
                            "model-00001-of-00004.safetensors",
                            "model-00002-of-00004.safetensors",
                            "model-00003-of-00004.safetensors",
                            "model-00004-of-00004.safetensors",
                            "model.safetensors.index.json"),
                    files.map(f -> f.getFileName().toString()).sorted().toList());
        }
        String index = Files.readString(model.resolve("model.safetensors.index.json"));
        assertTrue(index.contains("\"total_size\" : 600"), index);
        try (TensorFiles files = TensorFiles.open(model);
                TensorFiles direct = TensorFiles.open(model.resolve("model.safetensors.index.json"))) {
            assertEquals(6, files.names().size());
            assertEquals(files.names(), direct.names());
            assertTrue(files.get("layer.2").file().endsWith("model-00002-of-00004.safetensors"));
            for (TensorSpec spec : specs) {
                int n = (int) spec.elements();
                float[] back = new float[n];
                files.readFloats(files.get(spec.name()), 0, n, back, 0);
                assertArrayEquals(floats(n, spec.name().hashCode()), back, 0.02f, spec.name());
            }
        }
    }

    @Test
    void oneShardIsAPlainFileAndForeignWeightsAreNotMixed() throws IOException {
        List<TensorSpec> specs = List.of(TensorSpec.of("a", DType.F32, 4), TensorSpec.of("b", DType.F32, 4));
        SafetensorsWriter.Source source = (t, sink) -> sink.writeFloats(new float[4], 0, 4);
        ShardedWriter.write(folder, 1000, Map.of(), specs, source);
        assertEquals(List.of("model.safetensors"), listing());
        ShardedWriter.write(folder, 1000, Map.of(), specs, source);
        IllegalStateException e = assertThrows(
                IllegalStateException.class, () -> ShardedWriter.write(folder, 16, Map.of(), specs, source));
        assertTrue(e.getMessage().contains("model.safetensors"), e.getMessage());
        assertEquals(List.of("model.safetensors"), listing());
    }

    @Test
    void failureInALaterShardLeavesNoShard() throws IOException {
        List<TensorSpec> specs = List.of(TensorSpec.of("a", DType.F32, 4), TensorSpec.of("b", DType.F32, 4));
        assertThrows(
                UncheckedIOException.class,
                () -> ShardedWriter.write(folder, 16, Map.of(), specs, (t, sink) -> {
                    if (t.name().equals("b")) {
                        throw new IOException("No space left on device");
                    }
                    sink.writeFloats(new float[4], 0, 4);
                }));
        assertEquals(List.of(), listing());
    }

    @Test
    void readsOutsideOfTheTensorAreRefused() {
        Path file = write("a.safetensors", DType.F32, new float[6], 2, 3);
        Path other = write("b.safetensors", DType.F32, new float[6], 2, 3);
        float[] dst = new float[6];
        Safetensors files = Safetensors.open(file);
        StoredTensor w = files.get("w");
        assertThrows(IllegalArgumentException.class, () -> files.readFloats(w, 1, 6, dst, 0));
        assertThrows(IllegalArgumentException.class, () -> files.readFloats(w, -1, 1, dst, 0));
        assertThrows(IllegalArgumentException.class, () -> files.readFloats(w, Long.MAX_VALUE, 1, dst, 0));
        assertThrows(IllegalArgumentException.class, () -> files.readFloats(w, 0, 6, dst, 1));
        assertThrows(IllegalArgumentException.class, () -> files.readBytes(w, 1, ByteBuffer.allocate(24)));
        try (Safetensors second = Safetensors.open(other)) {
            assertThrows(IllegalArgumentException.class, () -> second.readBytes(w));
        }
        ModelFormatException missing = assertThrows(ModelFormatException.class, () -> files.get("v"));
        assertTrue(missing.getMessage().contains("'v'") && missing.getMessage().contains("[w]"), missing.getMessage());
        files.close();
        assertThrows(IllegalStateException.class, () -> files.readBytes(w));
    }

    @Test
    void fileTruncatedAfterOpeningIsAFormatError() throws IOException {
        Path file = write("a.safetensors", DType.F32, new float[6], 6);
        try (Safetensors files = Safetensors.open(file)) {
            byte[] bytes = Files.readAllBytes(file);
            Files.write(file, Arrays.copyOf(bytes, bytes.length - 1));
            ModelFormatException e = assertThrows(ModelFormatException.class, () -> files.readBytes(files.get("w")));
            assertTrue(e.getMessage().contains("'w'") && e.getMessage().contains("truncated"), e.getMessage());
        }
    }

    @Test
    void manyThreadsReadOneFile() throws InterruptedException {
        float[] values = floats(300_000, 8);
        try (Safetensors files = Safetensors.open(write("a.safetensors", DType.F32, values, 300, 1000))) {
            StoredTensor w = files.get("w");
            float[] back = new float[values.length];
            List<Thread> threads = new ArrayList<>();
            for (int t = 0; t < 4; t++) {
                int first = t;
                threads.add(Thread.ofPlatform().start(() -> {
                    for (int row = first; row < 300; row += 4) {
                        files.readFloats(w, row * 1000L, 1000, back, row * 1000);
                    }
                }));
            }
            for (Thread thread : threads) {
                thread.join();
            }
            assertArrayEquals(values, back);
        }
    }

    static List<Path> goldenModels() throws IOException {
        try (Stream<Path> files = Files.walk(golden().resolve("models"))) {
            return files.filter(file -> file.endsWith("base") && Files.isDirectory(file))
                    .sorted()
                    .toList();
        }
    }

    @ParameterizedTest
    @MethodSource("goldenModels")
    void goldenModelsOpen(Path model) {
        try (TensorFiles files = TensorFiles.open(model)) {
            StoredTensor embedding = files.get("model.embed_tokens.weight");
            assertEquals(2, embedding.rank());
            float[] row = new float[(int) embedding.dim(1)];
            files.readFloats(embedding, row.length, row.length, row, 0);
            double sum = 0;
            for (float value : row) {
                sum += Math.abs(value);
            }
            assertTrue(sum > 0 && sum < 100 * row.length, model + ": " + sum);
            for (String name : files.names()) {
                StoredTensor t = files.get(name);
                assertEquals(t.byteLength(), files.readBytes(t).length, name);
            }
        }
    }

    static Path golden() {
        String given = System.getProperty("qlora4j.golden");
        if (given != null) {
            return Path.of(given);
        }
        Path at = Path.of("").toAbsolutePath();
        while (at != null && !Files.isDirectory(at.resolve("golden"))) {
            at = at.getParent();
        }
        if (at == null) {
            throw new IllegalStateException("no folder golden/ above the working directory; set -Dqlora4j.golden");
        }
        return at.resolve("golden");
    }

    private List<String> listing() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }
}
