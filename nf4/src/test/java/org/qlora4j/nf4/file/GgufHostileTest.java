package org.qlora4j.nf4.file;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

class GgufHostileTest {
    private static final int STRING = 8;
    private static final int ARRAY = 9;
    private static final int UINT32 = 4;

    @TempDir
    Path folder;

    private Path write(GgufBytes bytes) throws IOException {
        return Files.write(folder.resolve("bad.gguf"), bytes.get());
    }

    private static void refused(Path file, String reason) {
        ModelFormatException e = assertThrows(ModelFormatException.class, () -> Gguf.open(file));
        assertEquals(file, e.file());
        assertTrue(e.what().contains(reason), "expected '" + reason + "' in: " + e.getMessage());
        assertTrue(e.getMessage().startsWith(file + ": "), e.getMessage());
    }

    static List<Arguments> files() {
        return List.of(
                Arguments.of(new GgufBytes().text("GGML"), "expected the letters GGUF"),
                Arguments.of(new GgufBytes().text("GG"), "truncated"),
                Arguments.of(GgufBytes.header(1, 0, 0), "version 1 is not supported"),
                Arguments.of(GgufBytes.header(4, 0, 0), "version 4 is not supported"),
                Arguments.of(GgufBytes.header(Integer.reverseBytes(3), 0, 0), "big-endian"),
                Arguments.of(new GgufBytes().text("GGUF").i32(3).i64(0), "metadata count: expected 8 bytes"),
                Arguments.of(GgufBytes.header(3, -1, 0), "tensors: count 18446744073709551615"),
                Arguments.of(GgufBytes.header(3, 1L << 40, 0), "above the limit"),
                Arguments.of(GgufBytes.header(3, 1_000_000, 0), "only 0 remain"),
                Arguments.of(GgufBytes.header(3, 0, 1L << 62), "metadata: count 4611686018427387904"),
                Arguments.of(GgufBytes.header(3, 0, 60_000), "only 0 remain"),
                Arguments.of(
                        GgufBytes.header(3, 0, 1).i64(Long.MAX_VALUE).data(8), "string of 9223372036854775807 bytes"),
                Arguments.of(GgufBytes.header(3, 0, 1).i64(-1).data(8), "string of 18446744073709551615 bytes"),
                Arguments.of(GgufBytes.header(3, 0, 1).i64(2_000_000_000).data(8), "string of 2000000000 bytes"),
                Arguments.of(GgufBytes.header(3, 0, 1).key("k", STRING).i64(1L << 31), "only 0 remain"),
                Arguments.of(GgufBytes.header(3, 0, 1).key("k", 13).data(9), "value type 13"),
                Arguments.of(GgufBytes.header(3, 0, 1).key("k", -1).data(9), "value type 4294967295"),
                Arguments.of(GgufBytes.header(3, 0, 1).key("k", 7).i32(2), "must be 0 or 1, found 2"),
                Arguments.of(GgufBytes.header(3, 0, 1).key("k", 10).i64(-1), "does not fit into 63 bits"),
                Arguments.of(GgufBytes.header(3, 0, 1).key("k", ARRAY).i32(0).i64(-1), "above the limit"),
                Arguments.of(GgufBytes.header(3, 0, 1).key("k", ARRAY).i32(0).i64(1L << 50), "above the limit"),
                Arguments.of(
                        GgufBytes.header(3, 0, 1).key("k", ARRAY).i32(STRING).i64(8_000_000),
                        "needs at least 64000000"),
                Arguments.of(
                        GgufBytes.header(3, 0, 1)
                                .key("k", ARRAY)
                                .i32(ARRAY)
                                .i64(1)
                                .i32(ARRAY)
                                .i64(1)
                                .i32(ARRAY)
                                .i64(1)
                                .i32(ARRAY)
                                .i64(1)
                                .i32(ARRAY)
                                .i64(1)
                                .data(64),
                        "nested deeper than 4"),
                Arguments.of(
                        GgufBytes.header(3, 0, 2)
                                .key("k", UINT32)
                                .i32(1)
                                .key("k", UINT32)
                                .i32(1),
                        "'k' is given twice"),
                Arguments.of(
                        GgufBytes.header(3, 0, 1)
                                .key("general.alignment", UINT32)
                                .i32(48),
                        "must be a power of two"),
                Arguments.of(
                        GgufBytes.header(3, 0, 1)
                                .key("general.alignment", UINT32)
                                .i32(0),
                        "must be a power of two"),
                Arguments.of(
                        GgufBytes.header(3, 0, 1)
                                .key("general.alignment", STRING)
                                .string("32"),
                        "must be a power of two"),
                Arguments.of(
                        GgufBytes.header(3, 0, 1).key("split.count", UINT32).i32(3), "gguf-split"),
                Arguments.of(
                        GgufBytes.header(3, 1, 0)
                                .tensor("w", 0, 0, 1, 1, 1, 1, 1)
                                .data(64),
                        "has 5 dimensions"),
                Arguments.of(GgufBytes.header(3, 1, 0).string("w").i32(-1).data(64), "has 4294967295 dimensions"),
                Arguments.of(GgufBytes.header(3, 1, 0).tensor("w", 0, 0, -4).data(64), "overflows 63 bits"),
                Arguments.of(
                        GgufBytes.header(3, 1, 0)
                                .tensor("w", 0, 0, 1L << 32, 1L << 32)
                                .data(64),
                        "overflows 64 bits"),
                Arguments.of(
                        GgufBytes.header(3, 1, 0).tensor("w", 0, 0, 1L << 62).data(64), "overflows 64 bits"),
                Arguments.of(
                        GgufBytes.header(3, 1, 0).tensor("w", 2, 0, 33).data(64),
                        "rows of 33 are not whole Q4_0 blocks"),
                Arguments.of(
                        GgufBytes.header(3, 1, 0).tensor("w", 12, 0, 32, 8).data(144), "rows of 32 are not whole Q4_K"),
                Arguments.of(GgufBytes.header(3, 1, 0).tensor("w", 0, 0, 16).data(63), "not inside the 63 bytes"),
                Arguments.of(GgufBytes.header(3, 1, 0).tensor("w", 0, -32, 16).data(64), "not inside"),
                Arguments.of(
                        GgufBytes.header(3, 1, 0)
                                .tensor("w", 0, Long.MAX_VALUE, 16)
                                .data(64),
                        "not inside"),
                Arguments.of(GgufBytes.header(3, 1, 0).tensor("w", 0, 8, 8).data(64), "not a multiple of 32"),
                Arguments.of(
                        GgufBytes.header(3, 2, 0)
                                .tensor("w", 0, 0, 8)
                                .tensor("w", 0, 32, 8)
                                .data(64),
                        "'w': is given twice"),
                Arguments.of(
                        GgufBytes.header(3, 2, 0)
                                .tensor("v", 0, 0, 16)
                                .tensor("w", 0, 32, 8)
                                .data(64),
                        "tensor 'w': starts at file offset"));
    }

    @ParameterizedTest(name = "{index} {1}")
    @MethodSource("files")
    void hostileFiles(GgufBytes bytes, String reason) throws IOException {
        refused(write(bytes), reason);
    }

    @ParameterizedTest
    @CsvSource({
        "16, IQ2_XXS",
        "17, IQ2_XS",
        "18, IQ3_XXS",
        "19, IQ1_S",
        "21, IQ3_S",
        "22, IQ2_S",
        "29, IQ1_M",
        "34, TQ1_0",
        "35, TQ2_0",
        "39, MXFP4",
        "4, Q4_2",
        "9, Q8_1",
        "1000, number 1000"
    })
    void otherTypesAreRefusedByName(int type, String name) throws IOException {
        refused(
                write(GgufBytes.header(3, 1, 0).tensor("w", type, 0, 256).data(512)),
                "type " + name + " is not supported");
    }

    @Test
    void everyTruncationOfAGoodHeaderIsRefused() throws IOException {
        byte[] good = GgufBytes.header(2, 1, 2)
                .key("a", STRING)
                .string("text")
                .key("b", ARRAY)
                .i32(UINT32)
                .i64(2)
                .i32(7)
                .i32(8)
                .tensor("w", 0, 0, 8, 2)
                .data(64)
                .get();
        Path file = folder.resolve("bad.gguf");
        for (int length = 0; length < good.length; length++) {
            Files.write(file, Arrays.copyOf(good, length));
            assertThrows(ModelFormatException.class, () -> Gguf.open(file), "length " + length);
        }
        Files.write(file, good);
        try (Gguf gguf = Gguf.open(file)) {
            assertEquals(2, gguf.version());
            assertEquals(List.of(2L, 8L), gguf.get("w").shape());
            assertEquals(List.of(7L, 8L), gguf.metadata().get("b"));
        }
    }

    @Test
    void alignmentOfTheFileIsUsed() throws IOException {
        Path file = write(GgufBytes.header(3, 1, 1)
                .key("general.alignment", UINT32)
                .i32(8)
                .tensor("w", 24, 8, 5)
                .i64(0)
                .i64(0)
                .i64(0));
        try (Gguf gguf = Gguf.open(file)) {
            assertEquals(0, gguf.get("w").offset() % 8);
            assertEquals(5, gguf.readBytes(gguf.get("w")).length);
            assertThrows(IllegalArgumentException.class, () -> gguf.readFloats(gguf.get("w"), 0, 5, new float[5], 0));
        }
    }

    @Test
    void stringsLongerThanTheBufferAreWhole() throws IOException {
        String big = "ab".repeat(100_000);
        Path file = write(GgufBytes.header(3, 0, 3)
                .key("a", STRING)
                .string(big)
                .key("b", UINT32)
                .i32(77)
                .key("c", STRING)
                .string(big + "!"));
        try (Gguf gguf = Gguf.open(file)) {
            assertEquals(big, gguf.metadata().get("a"));
            assertEquals(77L, gguf.metadata().get("b"));
            assertEquals(big + "!", gguf.metadata().get("c"));
        }
    }
}
