package org.qlora4j.lora.export;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.nf4.file.FloatFormats;
import org.qlora4j.nf4.file.TensorSink;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.BlockQuantizer;
import org.qlora4j.nf4.weight.DoubleQuant;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.QuantState;
import org.qlora4j.nf4.weight.QuantizedMatrix;

/**
 * What bitsandbytes' {@code Linear4bit} saves for each quantized layer. A layer is quantized when its first tensor is
 * asked for and forgotten with the next layer.
 */
final class Bnb4bitTensors {
    /** The linear layers of all supported families: embeddings, the output layer and routers have other names. */
    private static final Pattern LINEAR = Pattern.compile("(.*\\.layers\\.\\d+\\..*_proj)\\.weight");

    /** Longer than any float in decimal: quant_state's size must be known before the layer is quantized. */
    private static final float LONGEST_OFFSET = -1.17549435e-38f;

    private static final int ALIGNMENT = 8;

    private final MergedWeights weights;
    private final DType dtype;
    private final BnbOptions options;
    private final Map<String, String> weightOf = new HashMap<>();
    private @Nullable String current;
    private @Nullable QuantizedMatrix matrix;

    Bnb4bitTensors(MergedWeights weights, DType dtype, BnbOptions options) {
        this.weights = weights;
        this.dtype = dtype;
        this.options = options;
    }

    /** Whether a tensor of the model is quantized. */
    boolean contains(String name) {
        var linear = LINEAR.matcher(name);
        return linear.matches()
                && weights.shape(name).size() == 2
                && options.quantization().quantizes(linear.group(1));
    }

    /**
     * What is written for a quantized tensor, wide types first and each of them of whole 8 bytes if its size allows.
     */
    List<TensorSpec> specs(String name) {
        long rows = weights.shape(name).get(0);
        long n = rows * weights.shape(name).get(1);
        long blocks = BlockQuantizer.blocks(n, options.quantization().blockSize());
        List<TensorSpec> specs = new ArrayList<>();
        specs.add(TensorSpec.of(name + ".quant_map", DType.F32, 16));
        if (options.quantization().doubleQuant()) {
            specs.add(TensorSpec.of(name + ".nested_quant_map", DType.F32, DynamicMap.SIZE));
            specs.add(TensorSpec.of(
                    name + ".nested_absmax", DType.F32, BlockQuantizer.blocks(blocks, DoubleQuant.BLOCK_SIZE)));
            specs.add(TensorSpec.of(name + ".absmax", DType.U8, blocks));
        } else {
            specs.add(TensorSpec.of(name + ".absmax", DType.F32, blocks));
        }
        specs.add(packed(name, BlockQuantizer.packedBytes(n)));
        QuantState.Nested longest = options.quantization().doubleQuant()
                ? new QuantState.Nested(DoubleQuant.BLOCK_SIZE, LONGEST_OFFSET)
                : null;
        long stateBytes = state(name, longest).format().length;
        stateBytes = (stateBytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        specs.add(
                TensorSpec.of(name + "." + QuantState.key(options.quantization().type()), DType.U8, stateBytes));
        specs.forEach(spec -> weightOf.put(spec.name(), name));
        return specs;
    }

    private TensorSpec packed(String name, long bytes) {
        int elementBytes = options.quantStorage().bytes();
        if (bytes % elementBytes != 0) {
            throw new IllegalArgumentException("bnb_4bit_quant_storage "
                    + options.quantStorage().torchName() + " does not fit tensor '" + name + "': " + bytes
                    + " packed bytes are no multiple of " + elementBytes + "; use uint8");
        }
        return TensorSpec.of(name, options.quantStorage(), bytes / elementBytes, 1);
    }

    private QuantState state(String name, QuantState.@Nullable Nested nested) {
        List<Integer> shape = weights.shape(name).stream().map(Math::toIntExact).toList();
        return new QuantState(
                options.quantization().type(), options.quantization().blockSize(), dtype, shape, nested);
    }

    /** Writes a tensor if it is one of those that {@link #specs} gave. */
    boolean write(TensorSpec spec, TensorSink sink) throws IOException {
        String name = weightOf.get(spec.name());
        if (name == null) {
            return false;
        }
        QuantizedMatrix m = quantized(name);
        DoubleQuant.Nested nested = m.nested();
        String part = spec.name().substring(name.length());
        switch (part) {
            case "" -> sink.write(m.packed());
            case ".quant_map" -> floats(m.type().codebook().values(), sink);
            case ".absmax" -> {
                if (nested == null) {
                    floats(m.absmax(), sink);
                } else {
                    sink.write(nested.codes());
                }
            }
            case ".nested_quant_map" -> floats(DynamicMap.signed(), sink);
            case ".nested_absmax" -> floats(nested == null ? new float[0] : nested.absmax2(), sink);
            default -> sink.write(paddedState(name, nested, Math.toIntExact(spec.byteLength())));
        }
        return true;
    }

    private QuantizedMatrix quantized(String name) {
        QuantizedMatrix m = matrix;
        if (m == null || !name.equals(current)) {
            matrix = null;
            int rows = Math.toIntExact(weights.shape(name).get(0));
            int cols = Math.toIntExact(weights.shape(name).get(1));
            m = QuantizedMatrix.quantize(
                    options.quantization().type(),
                    options.quantization().blockSize(),
                    options.quantization().doubleQuant(),
                    rows,
                    cols,
                    (row, count, dst) -> {
                        weights.readRows(name, row, count, dst);
                        FloatFormats.round(dtype, dst, 0, count * cols);
                    });
            current = name;
            matrix = m;
        }
        return m;
    }

    private static void floats(float[] values, TensorSink sink) throws IOException {
        sink.writeFloats(values, 0, values.length);
    }

    /** JSON may be followed by spaces. */
    private ByteBuffer paddedState(String name, DoubleQuant.@Nullable Nested nested, int bytes) {
        byte[] json = state(
                        name, nested == null ? null : new QuantState.Nested(DoubleQuant.BLOCK_SIZE, nested.offset()))
                .format();
        byte[] padded = Arrays.copyOf(json, bytes);
        Arrays.fill(padded, json.length, bytes, " ".getBytes(StandardCharsets.US_ASCII)[0]);
        return ByteBuffer.wrap(padded);
    }
}
