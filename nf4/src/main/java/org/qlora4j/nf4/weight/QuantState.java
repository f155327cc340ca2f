package org.qlora4j.nf4.weight;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.DType;

/**
 * What bitsandbytes writes beside a 4-bit weight in {@code X.weight.quant_state.bitsandbytes__nf4}: the bytes of a JSON
 * object.
 *
 * @param type codebook
 * @param blockSize elements per scale
 * @param dtype dtype of the weight before quantization
 * @param shape [out, in]
 * @param nested the second level, or null
 */
public record QuantState(
        QuantType type,
        int blockSize,
        DType dtype,
        List<Integer> shape,
        @Nullable Nested nested) {
    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    /**
     * Double quantization.
     *
     * @param blockSize scales per second-level scale
     * @param offset the mean that was taken off the scales
     */
    public record Nested(int blockSize, float offset) {
        /** @throws IllegalArgumentException if the block size is below 1 or the offset is not finite */
        public Nested {
            if (blockSize < 1 || !Float.isFinite(offset)) {
                throw new IllegalArgumentException(
                        "quant_state: nested_blocksize must be positive and nested_offset finite, got " + blockSize
                                + " and " + offset);
            }
        }
    }

    /** @throws IllegalArgumentException if block size or shape is impossible or dtype is no floating point type */
    public QuantState {
        QuantType.checkBlockSize(blockSize);
        shape = List.copyOf(shape);
        if (shape.size() != 2 || shape.stream().anyMatch(s -> s < 1)) {
            throw new IllegalArgumentException("the shape of a 4-bit weight must be [out, in], got " + shape);
        }
        if (!dtype.isFloat()) {
            throw new IllegalArgumentException(
                    "the dtype of a 4-bit weight must be a floating point type, got " + dtype.torchName());
        }
    }

    /** Name of the tensor that holds it, behind {@code X.weight.}. */
    public static String key(QuantType type) {
        return "quant_state.bitsandbytes__" + type.bnbName();
    }

    /** @throws IllegalArgumentException if it is not what bitsandbytes writes */
    public static QuantState parse(byte[] bytes) {
        JsonNode json;
        try {
            json = JSON.readTree(new String(bytes, StandardCharsets.UTF_8));
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException("quant_state is not JSON: " + e.getOriginalMessage(), e);
        }
        if (!json.isObject()) {
            throw new IllegalArgumentException("quant_state must be a JSON object, got " + json.getNodeType());
        }
        JsonNode sizes = json.path("shape");
        if (!sizes.isArray() || sizes.size() != 2) {
            throw unexpected("shape", "two integers", sizes);
        }
        List<Integer> shape = new ArrayList<>();
        for (JsonNode size : sizes) {
            shape.add(integer("shape", size));
        }
        Nested nested = null;
        if (json.hasNonNull("nested_blocksize")) {
            JsonNode offset = json.path("nested_offset");
            if (!offset.isNumber()) {
                throw unexpected("nested_offset", "a number", offset);
            }
            nested = new Nested(
                    integer("nested_blocksize", json.path("nested_blocksize")), (float) offset.doubleValue());
        }
        return new QuantState(
                QuantType.ofBnbName(text("quant_type", json)),
                integer("blocksize", json.path("blocksize")),
                DType.ofTorchName(text("dtype", json)),
                shape,
                nested);
    }

    private static int integer(String name, JsonNode value) {
        if (!value.isIntegralNumber() || !value.canConvertToInt()) {
            throw unexpected(name, "an integer", value);
        }
        return value.intValue();
    }

    private static String text(String name, JsonNode json) {
        JsonNode value = json.path(name);
        if (!value.isTextual()) {
            throw unexpected(name, "a string", value);
        }
        return value.textValue();
    }

    private static IllegalArgumentException unexpected(String name, String expected, JsonNode found) {
        String text = found.isMissingNode() ? "nothing" : found.toString();
        return new IllegalArgumentException("quant_state: '" + name + "' must be " + expected + ", got "
                + text.substring(0, Math.min(80, text.length())));
    }

    /** The bytes bitsandbytes would write, spaces included. */
    public byte[] format() {
        StringBuilder json = new StringBuilder("{\"quant_type\": \"").append(type.bnbName());
        json.append("\", \"blocksize\": ").append(blockSize);
        json.append(", \"dtype\": \"").append(dtype.torchName());
        // a list of integers reads the same in Java and in JSON
        json.append("\", \"shape\": ").append(shape);
        if (nested != null) {
            json.append(", \"nested_blocksize\": ").append(nested.blockSize);
            json.append(", \"nested_dtype\": \"float32\", \"nested_offset\": ").append(python(nested.offset));
        }
        return json.append('}').toString().getBytes(StandardCharsets.UTF_8);
    }

    /** As Python prints a float: Java's digits, but with an exponent only below 1e-4 and from 1e16 on. */
    private static String python(double value) {
        String text = Double.toString(value);
        int e = text.indexOf('E');
        if (e < 0) {
            return text;
        }
        int exponent = Integer.parseInt(text.substring(e + 1));
        if (exponent >= -4 && exponent < 16) {
            String plain = new BigDecimal(text).toPlainString();
            return plain.contains(".") ? plain : plain + ".0";
        }
        String digits = text.substring(0, e);
        if (digits.endsWith(".0")) {
            digits = digits.substring(0, digits.length() - 2);
        }
        return digits + (exponent < 0 ? "e-" : "e+") + (Math.abs(exponent) < 10 ? "0" : "") + Math.abs(exponent);
    }
}
