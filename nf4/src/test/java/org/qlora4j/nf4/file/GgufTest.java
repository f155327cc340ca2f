package org.qlora4j.nf4.file;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URISyntaxException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Files made by the gguf Python package, see src/test/resources/README.md. */
class GgufTest {
    private static Path resource(String name) {
        URL url = Objects.requireNonNull(GgufTest.class.getResource(name), name);
        try {
            return Path.of(url.toURI());
        } catch (URISyntaxException e) {
            throw new IllegalStateException(url.toString(), e);
        }
    }

    private static Gguf open() {
        return Gguf.open(resource("gguf_types.gguf"));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
                "Q8_K", "IQ4_NL", "IQ4_XS"
            })
    void dequantizesBitForBit(String name) {
        try (Gguf gguf = open();
                Safetensors values = Safetensors.open(resource("gguf_types.safetensors"))) {
            StoredTensor t = gguf.get(name);
            assertEquals(GgufType.valueOf(name), t.type());
            int count = (int) t.elements();
            float[] expected = new float[count];
            values.readFloats(values.get(name), 0, count, expected, 0);
            float[] found = new float[count];
            gguf.readFloats(t, 0, count, found, 0);
            for (int i = 0; i < count; i++) {
                assertEquals(
                        Float.floatToRawIntBits(expected[i]),
                        Float.floatToRawIntBits(found[i]),
                        name + " element " + i + ": expected " + expected[i] + ", found " + found[i]);
            }
            int half = count / 2;
            float[] second = new float[half + 1];
            gguf.readFloats(t, half, half, second, 1);
            assertEquals(found[half], second[1]);
            assertEquals(found[count - 1], second[half]);
        }
    }

    @Test
    void shapesAreRowMajor() {
        try (Gguf gguf = open()) {
            assertEquals(3, gguf.version());
            assertEquals(List.of(3L, 4L), gguf.get("F32").shape());
            assertEquals(List.of(1L, 512L), gguf.get("Q4_K").shape());
            assertEquals(2 * 144, gguf.get("Q4_K").byteLength());
            assertEquals(2 * 144, gguf.readBytes(gguf.get("Q4_K")).length);
        }
    }

    @Test
    void blocksAreReadWhole() {
        try (Gguf gguf = open()) {
            StoredTensor t = gguf.get("Q4_0");
            float[] dst = new float[64];
            IllegalArgumentException e =
                    assertThrows(IllegalArgumentException.class, () -> gguf.readFloats(t, 16, 32, dst, 0));
            assertTrue(e.getMessage().contains("blocks of 32"), e.getMessage());
            assertThrows(IllegalArgumentException.class, () -> gguf.readFloats(t, 0, 33, dst, 0));
        }
    }

    @Test
    void blocksOfManyChunksStayInOrder(@TempDir Path folder) throws IOException {
        // 70_000 blocks of 34 bytes are three chunks of 1 MiB, read from an odd place on
        int blocks = 70_000;
        byte[] data = new byte[blocks * 34];
        for (int b = 0; b < blocks; b++) {
            data[b * 34 + 1] = 0x3C; // fp16 1.0
            data[b * 34 + 2] = (byte) (b % 100);
            data[b * 34 + 33] = (byte) (b / 1000);
        }
        Path file = Files.write(
                folder.resolve("q8.gguf"),
                GgufBytes.header(3, 1, 0)
                        .tensor("w", 8, 0, 32L * blocks)
                        .data(0)
                        .bytes(data)
                        .get());
        try (Gguf gguf = Gguf.open(file)) {
            float[] dst = new float[(blocks - 3) * 32];
            gguf.readFloats(gguf.get("w"), 3 * 32, dst.length, dst, 0);
            for (int b = 3; b < blocks; b++) {
                assertEquals(b % 100, dst[(b - 3) * 32], "block " + b);
                assertEquals(Math.floorDiv(b, 1000), dst[(b - 3) * 32 + 31], "block " + b);
            }
        }
    }

    @Test
    void readsEveryTypeOfMetadata() {
        try (TensorFiles files = TensorFiles.open(resource("gguf_types.gguf"))) {
            Gguf gguf = (Gguf) files;
            assertEquals(Optional.of("llama"), gguf.text("general.architecture"));
            assertEquals(Optional.of(200L), gguf.integer("test.u8"));
            assertEquals(Optional.of(-100L), gguf.integer("test.i8"));
            assertEquals(Optional.of(60_000L), gguf.integer("test.u16"));
            assertEquals(Optional.of(-30_000L), gguf.integer("test.i16"));
            assertEquals(Optional.of(4_000_000_000L), gguf.integer("test.u32"));
            assertEquals(Optional.of(-2_000_000_000L), gguf.integer("test.i32"));
            assertEquals(Optional.of(Long.MAX_VALUE), gguf.integer("test.u64"));
            assertEquals(Optional.of(Long.MIN_VALUE), gguf.integer("test.i64"));
            assertEquals(Optional.of((double) 1e-5f), gguf.number("test.f32"));
            assertEquals(Optional.of(0.1), gguf.number("test.f64"));
            assertEquals(Optional.of(200.0), gguf.number("test.u8"));
            assertEquals(Optional.of(true), gguf.bool("test.bool"));
            assertEquals(Optional.of("grüße ▁"), gguf.text("test.string"));
            assertEquals(Optional.of(List.of("<s>", "", "▁the")), gguf.array("test.strings", String.class));
            assertEquals(Optional.of(List.of(0.5, -1.5)), gguf.array("test.floats", Double.class));
            assertEquals(Optional.of(List.of(List.of(1L, 2L), List.of(3L))), gguf.array("test.nested", List.class));
            assertEquals(Optional.empty(), gguf.text("test.missing"));
            ModelFormatException e = assertThrows(ModelFormatException.class, () -> gguf.integer("test.string"));
            assertTrue(e.getMessage().contains("expected an integer, found String"), e.getMessage());
            assertThrows(ModelFormatException.class, () -> gguf.array("test.strings", Long.class));
        }
    }

    @Test
    void blockSizesFitTheBytesOfTheFile() {
        try (Gguf gguf = open()) {
            for (String name : gguf.names()) {
                StoredTensor t = gguf.get(name);
                assertArrayEquals(
                        new long[] {
                            t.elements() / t.type().blockSize() * t.type().blockBytes()
                        },
                        new long[] {gguf.readBytes(t).length},
                        name);
            }
        }
    }
}
