package org.qlora4j.nf4.weight;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.DType;

/**
 * What bitsandbytes writes beside a 4-bit weight in {@code X.weight.quant_state.bitsandbytes__nf4}: the bytes of a JSON object.
 *
 * @param type codebook
 * @param blockSize elements per scale
 * @param dtype dtype of the weight before quantization
 * @param shape [out, in]
 * @param nested the second level, or null
 */
public record QuantState(
        QuantType type, int blockSize, DType dtype, List<Integer> shape, @Nullable Nested nested) {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** Double quantization: scales per second-level scale, and the offset. */
    public record Nested(int blockSize, float offset) {}

    public QuantState {
        QuantType.checkBlockSize(blockSize);
        shape = List.copyOf(shape);
        if (shape.size() != 2 || shape.stream().anyMatch(s -> s < 1)) {
            throw new IllegalArgumentException("the shape of a 4-bit weight must be [out, in], got " + shape);
        }
        if (nested != null && (nested.blockSize < 1 || !Float.isFinite(nested.offset))) {
            throw new IllegalArgumentException("nested_blocksize must be positive and nested_offset finite, got " + nested);
        }
    }

    /** Name of the tensor that holds it, behind {@code X.weight.}. */
    public static String key(QuantType type) {
        return "quant_state.bitsandbytes__" + type.bnbName();
    }

    /** @throws IllegalArgumentException if it is not what bitsandbytes writes */
    public static QuantState parse(byte[] bytes) {
        try {
            JsonNode json = JSON.readTree(new String(bytes, StandardCharsets.UTF_8));
            List<Integer> shape = new ArrayList<>();
            for (JsonNode s : json.path("shape")) {
                if (!s.canConvertToInt()) {
                    throw new IllegalArgumentException("quant_state: shape " + json.path("shape") + " is not a list of integers");
                }
                shape.add(s.intValue());
            }
            Nested nested = json.hasNonNull("nested_blocksize")
                    ? new Nested(json.path("nested_blocksize").intValue(), (float) json.path("nested_offset").doubleValue())
                    : null;
            return new QuantState(
                    QuantType.ofBnbName(json.path("quant_type").asText()),
                    json.path("blocksize").intValue(),
                    DType.ofTorchName(json.path("dtype").asText("float32")),
                    shape,
                    nested);
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException("quant_state is not JSON: " + e.getOriginalMessage(), e);
        }
    }

    /** The bytes bitsandbytes would write. */
    public byte[] format() {
        ObjectNode json = JSON.createObjectNode();
        json.put("quant_type", type.bnbName());
        json.put("blocksize", blockSize);
        json.put("dtype", dtype.torchName());
        json.set("shape", JSON.valueToTree(shape));
        if (nested != null) {
            json.put("nested_blocksize", nested.blockSize);
            json.put("nested_dtype", "float32");
            json.put("nested_offset", (double) nested.offset);
        }
        return json.toString().getBytes(StandardCharsets.UTF_8);
    }
}
