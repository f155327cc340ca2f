package org.qlora4j.nf4.file;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.DType;

/**
 * The header of one safetensors file: u64 length, then a JSON object that gives each tensor's dtype, shape and place.
 *
 * @param metadata the {@code __metadata__} strings; empty if there are none
 * @param tensors by name, in the order of their data
 * @see <a href="https://github.com/huggingface/safetensors#format">the format</a>
 */
record SafetensorsHeader(Map<String, String> metadata, Map<String, StoredTensor> tensors) {
    /** The limit of the reference implementation. */
    static final long MAX_HEADER_BYTES = 100_000_000;

    static final String METADATA = "__metadata__";

    private static final int LENGTH_BYTES = 8;
    // numpy's limit is 64; no weight of a language model comes near
    private static final int MAX_RANK = 64;
    private static final long LFS_POINTER_MAGIC = asLittleEndianLong("version ");

    private record Location(@Nullable DType dtype, @Nullable List<Long> shape, long begin, long end) {}

    static SafetensorsHeader read(Path file, FileChannel channel) {
        long fileBytes = TensorReader.size(file, channel);
        if (fileBytes < LENGTH_BYTES) {
            throw new ModelFormatException(
                    file, "expected a safetensors file, found only " + fileBytes + " bytes; download it again");
        }
        ByteBuffer length = ByteBuffer.allocate(LENGTH_BYTES).order(ByteOrder.LITTLE_ENDIAN);
        fill(file, channel, 0, length);
        long headerBytes = length.getLong(0);
        if (headerBytes == LFS_POINTER_MAGIC) {
            throw new ModelFormatException(file, "is a Git LFS pointer, not the weights; run 'git lfs pull'");
        }
        if (headerBytes < 0 || headerBytes > MAX_HEADER_BYTES) {
            throw new ModelFormatException(
                    file,
                    "header length " + Long.toUnsignedString(headerBytes) + " at offset 0 is above the limit of "
                            + MAX_HEADER_BYTES + "; this is not a safetensors file");
        }
        if (headerBytes > fileBytes - LENGTH_BYTES) {
            throw new ModelFormatException(
                    file,
                    "header of " + headerBytes + " bytes does not fit into the file of " + fileBytes
                            + " bytes; it is truncated, download it again");
        }
        byte[] json = new byte[(int) headerBytes];
        fill(file, channel, LENGTH_BYTES, ByteBuffer.wrap(json));
        if (json.length == 0 || json[0] != '{') {
            throw new ModelFormatException(file, "expected a JSON object as header at offset 8");
        }
        return parse(file, json, LENGTH_BYTES + headerBytes, fileBytes);
    }

    private static SafetensorsHeader parse(Path file, byte[] json, long dataStart, long fileBytes) {
        Map<String, String> metadata = Map.of();
        Map<String, StoredTensor> tensors = new LinkedHashMap<>();
        try (JsonParser parser = StrictJson.parser(json)) {
            StrictJson.expect(file, parser, parser.nextToken(), JsonToken.START_OBJECT, "the header");
            while (parser.nextToken() != JsonToken.END_OBJECT) {
                String name = parser.currentName();
                JsonToken value = parser.nextToken();
                if (name.equals(METADATA)) {
                    metadata = StrictJson.stringMap(file, parser, value, METADATA);
                } else {
                    StrictJson.expect(file, parser, value, JsonToken.START_OBJECT, "tensor '" + name + "'");
                    Location location = location(file, parser, name);
                    tensors.put(name, stored(file, name, location, dataStart, fileBytes));
                }
            }
            StrictJson.expectEnd(file, parser, "the header");
        } catch (IOException e) {
            throw StrictJson.invalid(file, "the header", e);
        }
        return new SafetensorsHeader(metadata, inDataOrder(file, tensors, dataStart, fileBytes));
    }

    private static Location location(Path file, JsonParser parser, String name) throws IOException {
        DType dtype = null;
        List<Long> shape = null;
        List<Long> offsets = List.of();
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String field = parser.currentName();
            JsonToken value = parser.nextToken();
            switch (field) {
                case "dtype" -> {
                    StrictJson.expect(file, parser, value, JsonToken.VALUE_STRING, "dtype of tensor '" + name + "'");
                    dtype = dtype(file, name, parser.getText());
                }
                case "shape" -> shape = longs(file, parser, value, name, field, MAX_RANK);
                case "data_offsets" -> offsets = longs(file, parser, value, name, field, 2);
                default -> parser.skipChildren();
            }
        }
        if (offsets.size() != 2) {
            throw ModelFormatException.ofTensor(file, name, "expected data_offsets [begin, end], found " + offsets);
        }
        return new Location(dtype, shape, offsets.get(0), offsets.get(1));
    }

    private static DType dtype(Path file, String name, String text) {
        for (DType known : DType.values()) {
            if (known.name().equals(text)) {
                return known;
            }
        }
        throw ModelFormatException.ofTensor(
                file, name, "dtype '" + text + "' is not supported; supported: " + List.of(DType.values()));
    }

    private static List<Long> longs(Path file, JsonParser parser, JsonToken start, String name, String field, int most)
            throws IOException {
        StrictJson.expect(file, parser, start, JsonToken.START_ARRAY, field + " of tensor '" + name + "'");
        List<Long> values = new ArrayList<>();
        JsonToken token;
        while ((token = parser.nextToken()) != JsonToken.END_ARRAY) {
            StrictJson.expect(file, parser, token, JsonToken.VALUE_NUMBER_INT, field + " of tensor '" + name + "'");
            long value = parser.getLongValue();
            if (value < 0) {
                throw ModelFormatException.ofTensor(file, name, field + " must not be negative, found " + value);
            }
            if (values.size() == most) {
                throw ModelFormatException.ofTensor(file, name, field + " has more than " + most + " numbers");
            }
            values.add(value);
        }
        return values;
    }

    private static StoredTensor stored(Path file, String name, Location at, long dataStart, long fileBytes) {
        DType dtype = at.dtype();
        List<Long> shape = at.shape();
        if (dtype == null || shape == null) {
            throw ModelFormatException.ofTensor(file, name, "has no " + (dtype == null ? "dtype" : "shape"));
        }
        long dataBytes = fileBytes - dataStart;
        if (at.begin() > at.end() || at.end() > dataBytes) {
            throw ModelFormatException.ofTensor(
                    file,
                    name,
                    "data_offsets [" + at.begin() + ", " + at.end() + "] are not inside the " + dataBytes
                            + " bytes of data; the file is truncated or damaged");
        }
        StorageType type = new StorageType.Plain(dtype);
        long expected;
        try {
            expected = StoredTensor.byteLength(type, shape);
        } catch (ArithmeticException e) {
            throw ModelFormatException.ofTensor(file, name, "shape " + shape + " overflows 64 bits");
        }
        if (expected != at.end() - at.begin()) {
            throw ModelFormatException.ofTensor(
                    file,
                    name,
                    dtype + " " + shape + " takes " + expected + " bytes, data_offsets [" + at.begin() + ", " + at.end()
                            + "] give " + (at.end() - at.begin()));
        }
        return new StoredTensor(name, type, shape, file, dataStart + at.begin(), expected);
    }

    /** The tensors must cover the data exactly: an overlap or a hole could smuggle or hide bytes. */
    private static Map<String, StoredTensor> inDataOrder(
            Path file, Map<String, StoredTensor> tensors, long dataStart, long fileBytes) {
        List<StoredTensor> sorted = new ArrayList<>(tensors.values());
        sorted.sort(Comparator.comparingLong(StoredTensor::offset).thenComparingLong(StoredTensor::byteLength));
        Map<String, StoredTensor> ordered = new LinkedHashMap<>();
        long end = dataStart;
        for (StoredTensor t : sorted) {
            if (t.offset() != end) {
                throw ModelFormatException.ofTensor(
                        file,
                        t.name(),
                        "starts at " + (t.offset() - dataStart) + ", expected " + (end - dataStart)
                                + " where the tensor before it ends: "
                                + (t.offset() < end ? "they overlap" : "there is a hole"));
            }
            end = t.offset() + t.byteLength();
            ordered.put(t.name(), t);
        }
        if (end != fileBytes) {
            throw new ModelFormatException(
                    file, "the tensors end at byte " + end + ", the file at " + fileBytes + ": there is a hole");
        }
        return ordered;
    }

    private static void fill(Path file, FileChannel channel, long position, ByteBuffer dst) {
        if (!TensorReader.readFully(file, channel, position, dst)) {
            throw new ModelFormatException(file, "the file ended inside the header");
        }
    }

    private static long asLittleEndianLong(String eightLetters) {
        return ByteBuffer.wrap(eightLetters.getBytes(StandardCharsets.US_ASCII))
                .order(ByteOrder.LITTLE_ENDIAN)
                .getLong();
    }
}
