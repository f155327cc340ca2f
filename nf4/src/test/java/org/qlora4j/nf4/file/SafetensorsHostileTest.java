package org.qlora4j.nf4.file;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class SafetensorsHostileTest {
    @TempDir
    Path folder;

    private Path file(long statedLength, byte[] header, int dataBytes) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(8 + header.length + dataBytes).order(ByteOrder.LITTLE_ENDIAN);
        bytes.putLong(statedLength).put(header);
        return Files.write(folder.resolve("bad.safetensors"), bytes.array());
    }

    private Path file(String header, int dataBytes) throws IOException {
        byte[] json = header.getBytes(StandardCharsets.UTF_8);
        return file(json.length, json, dataBytes);
    }

    private static void refused(Path path, String... reasons) {
        ModelFormatException e = assertThrows(ModelFormatException.class, () -> Safetensors.open(path));
        assertEquals(path, e.file());
        for (String reason : reasons) {
            assertTrue(e.what().contains(reason), "expected '" + reason + "' in: " + e.getMessage());
        }
        assertTrue(e.getMessage().startsWith(path + ": "), e.getMessage());
    }

    private static String tensor(String name, String dtype, String shape, String offsets) {
        return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets
                + "}";
    }

    static List<Arguments> headers() {
        String good = tensor("a", "F32", "[2]", "[0,8]");
        return List.of(
                Arguments.of("{" + good + "}", 7, "not inside the 7 bytes"),
                Arguments.of("{" + good + "}", 9, "there is a hole"),
                Arguments.of("{" + tensor("a", "F32", "[2]", "[8,0]") + "}", 8, "not inside"),
                Arguments.of("{" + tensor("a", "F32", "[2]", "[-8,0]") + "}", 8, "must not be negative"),
                Arguments.of("{" + tensor("a", "F32", "[2]", "[0,9223372036854775807]") + "}", 8, "not inside"),
                Arguments.of("{" + tensor("a", "F32", "[2]", "[0,9223372036854775808]") + "}", 8, "out of range"),
                Arguments.of("{" + tensor("a", "F32", "[2]", "[0,8,8]") + "}", 8, "more than 2"),
                Arguments.of("{" + tensor("a", "F32", "[2]", "[0]") + "}", 8, "expected data_offsets"),
                Arguments.of("{" + tensor("a", "F32", "[3]", "[0,8]") + "}", 8, "takes 12 bytes"),
                Arguments.of("{" + tensor("a", "F32", "[-2]", "[0,8]") + "}", 8, "must not be negative"),
                Arguments.of("{" + tensor("a", "F32", "[2.0]", "[0,8]") + "}", 8, "expected an integer"),
                // 2^32 * 2^32 would be 0 in 64 bits, 2^62 elements of 4 bytes as well
                Arguments.of("{" + tensor("a", "F32", "[4294967296,4294967296]", "[0,0]") + "}", 0, "overflows"),
                Arguments.of("{" + tensor("a", "F32", "[4611686018427387904]", "[0,0]") + "}", 0, "overflows"),
                Arguments.of("{" + tensor("a", "F8_E4M3", "[2]", "[0,2]") + "}", 2, "'F8_E4M3' is not supported"),
                Arguments.of("{" + tensor("a", "F32", "[2]", "null") + "}", 8, "expected an array"),
                Arguments.of("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "has no dtype"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "has no shape"),
                Arguments.of("{\"a\":[]}", 0, "expected an object"),
                Arguments.of("{" + good + "," + good + "}", 8, "Duplicate field 'a'"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"U8\"}}", 8, "Duplicate field 'dtype'"),
                Arguments.of("{" + good + "," + tensor("b", "F32", "[2]", "[4,12]") + "}", 12, "they overlap"),
                Arguments.of("{" + good + "," + tensor("b", "F32", "[2]", "[0,8]") + "}", 8, "they overlap"),
                Arguments.of("{" + good + "," + tensor("b", "F32", "[1]", "[12,16]") + "}", 16, "there is a hole"),
                Arguments.of("{\"__metadata__\":{\"format\":1}}", 0, "expected a string"),
                Arguments.of("{\"__metadata__\":\"pt\"}", 0, "expected an object"),
                Arguments.of("{" + good + "}{}", 8, "after the JSON object"),
                Arguments.of("{" + good, 8, "not valid JSON"),
                Arguments.of("[" + good + "]", 8, "expected a JSON object"),
                Arguments.of("", 0, "expected a JSON object"),
                Arguments.of("{\"a\":{\"x\":" + "[".repeat(100_000) + "}}", 0, "nesting depth"),
                Arguments.of("{\"a\":" + "{\"a\":".repeat(100_000) + "}", 0, "nesting depth"),
                Arguments.of("{" + tensor("a", "F32", "[" + "1,".repeat(64) + "2]", "[0,8]") + "}", 8, "more than 64"),
                Arguments.of(
                        "{" + tensor("a", "F32", "[" + "1".repeat(5000) + "]", "[0,8]") + "}", 8, "not valid JSON"));
    }

    @ParameterizedTest(name = "{index} {2}")
    @MethodSource("headers")
    void hostileHeaders(String header, int dataBytes, String reason) throws IOException {
        refused(file(header, dataBytes), reason);
    }

    @ParameterizedTest
    @ValueSource(longs = {-1, Long.MIN_VALUE, 1L << 40, 100_000_001})
    void absurdHeaderLength(long length) throws IOException {
        refused(
                file(length, "{}".getBytes(StandardCharsets.UTF_8), 0),
                Long.toUnsignedString(length),
                "above the limit");
    }

    @Test
    void headerLongerThanTheFile() throws IOException {
        refused(file(99_999_999, new byte[] {'{', '}'}, 0), "99999999", "does not fit into the file of 10 bytes");
    }

    @Test
    void shortFilesAndPointers() throws IOException {
        Path file = folder.resolve("bad.safetensors");
        refused(Files.write(file, new byte[7]), "found only 7 bytes");
        refused(Files.writeString(file, "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "git lfs pull");
    }

    @Test
    void textIsUtf8Only() throws IOException {
        byte[] utf16 = "{}".getBytes(StandardCharsets.UTF_16LE);
        refused(file(utf16.length, utf16, 0), "not valid JSON");
        byte[] malformed = {'{', '"', (byte) 0xC3, '(', '"', ':', '{', '}', '}'};
        refused(file(malformed.length, malformed, 0), "not valid JSON", "MalformedInput");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "../secret.safetensors",
                "/etc/secret.safetensors",
                "sub/x.safetensors",
                "..\\\\x.safetensors",
                "x\\u0000.safetensors",
                "..",
                "",
                "config.json"
            })
    void indexMustStayInItsFolder(String shard) throws IOException {
        // a complete file lies at the traversal's end: only the name is wrong
        Path inside = Files.createDirectories(folder.resolve("m"));
        Files.write(folder.resolve("secret.safetensors"), Files.readAllBytes(file("{}", 0)));
        Path index = Files.writeString(
                inside.resolve("model.safetensors.index.json"), "{\"weight_map\":{\"w\":\"" + shard + "\"}}");
        refused(index, "tensor 'w'", "same folder");
    }

    @Test
    void indexMustFitTheShards() throws IOException {
        Path index = folder.resolve("model.safetensors.index.json");
        file("{" + tensor("a", "U8", "[1]", "[0,1]") + "}", 1);
        refused(Files.writeString(index, "{}"), "no weight_map");
        refused(Files.writeString(index, "[]"), "expected an object");
        refused(Files.writeString(index, "{\"weight_map\":{\"a\":1}}"), "expected a string");
        refused(
                Files.writeString(index, "{\"weight_map\":{\"a\":\"bad.safetensors\",\"a\":\"x\"}}"),
                "Duplicate field 'a'");
        refused(
                Files.writeString(index, "{\"weight_map\":{\"a\":\"gone.safetensors\"}}"),
                "gone.safetensors",
                "missing");
        refused(Files.writeString(index, "{\"weight_map\":{\"b\":\"bad.safetensors\"}}"), "'b'", "does not hold it");
    }

    @Test
    void folderWithoutWeights() {
        refused(folder, "model.safetensors", "found neither");
    }

    @Test
    void deepJsonInTheIndex() throws IOException {
        Path index = Files.writeString(
                folder.resolve("model.safetensors.index.json"), "{\"metadata\":" + "[".repeat(100_000) + "}");
        refused(index, "not valid JSON", "nesting depth");
    }
}
