package org.qlora4j.lora.model;

import java.nio.ByteBuffer;
import org.qlora4j.nf4.file.FloatFormats;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.BlockQuantizer;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.QuantState;
import org.qlora4j.nf4.weight.QuantType;

/**
 * A 4-bit weight in a checkpoint: codes, scales and {@code quant_state}, whose sizes are checked against each other.
 *
 * @param packed two codes a byte; of any element type ({@code bnb_4bit_quant_storage}), which does not matter
 * @param absmax one scale a block: fp32, or U8 with double quantization
 * @param state what bitsandbytes wrote beside it
 */
record Bnb4bitWeight(StoredTensor packed, StoredTensor absmax, QuantState state) implements BnbWeight {

    static Bnb4bitWeight open(TensorFiles files, StoredTensor t, StoredTensor stateBytes, QuantType type) {
        QuantState state;
        try {
            state = QuantState.parse(files.readBytes(stateBytes));
        } catch (IllegalArgumentException e) {
            throw error(t, String.valueOf(e.getMessage()));
        }
        if (state.type() != type) {
            throw error(t, "quant_state says " + state.type().bnbName() + ", its name " + type.bnbName());
        }
        Bnb4bitWeight weight = new Bnb4bitWeight(t, files.get(t.name() + ".absmax"), state);
        long bytes = BlockQuantizer.packedBytes(weight.elements());
        if (t.byteLength() != bytes) {
            throw error(
                    t,
                    "must hold " + bytes + " bytes for quant_state's shape " + state.shape() + ", found "
                            + t.type().name() + " " + t.shape());
        }
        weight.checkScales(files);
        weight.requireCodebook(files);
        return weight;
    }

    private void checkScales(TensorFiles files) {
        boolean nested = state.nested() != null;
        boolean fits = nested
                ? absmax.type().dtype().filter(DType.U8::equals).isPresent()
                : absmax.type().readsAsFloats();
        if (!fits || absmax.elements() != blocks()) {
            throw error(
                    absmax,
                    "must hold " + blocks() + (nested ? " bytes (U8)" : " floats") + ", found "
                            + absmax.type().name() + " " + absmax.shape());
        }
        if (nested) {
            part(files, "nested_absmax", BlockQuantizer.blocks(blocks(), nested().blockSize()));
            part(files, "nested_quant_map", DynamicMap.SIZE);
        }
    }

    /** The devices have the two standard codebooks; a checkpoint with another one would decode to nonsense. */
    private void requireCodebook(TensorFiles files) {
        float[] expected = state.type().codebook().values();
        float[] found = floats(files, part(files, "quant_map", expected.length), 0, expected.length);
        for (int i = 0; i < expected.length; i++) {
            if (expected[i] != found[i]) {
                throw error(
                        packed,
                        "quant_map: value " + i + " is " + found[i] + ", "
                                + state.type().bnbName() + " has " + expected[i]);
            }
        }
    }

    private StoredTensor part(TensorFiles files, String name, long count) {
        StoredTensor t = files.get(packed.name() + "." + name);
        if (t.elements() != count || !t.type().readsAsFloats()) {
            throw error(t, "must hold " + count + " floats, found " + t.type().name() + " " + t.shape());
        }
        return t;
    }

    private static ModelFormatException error(StoredTensor t, String what) {
        return new ModelFormatException(t.file(), "tensor '" + t.name() + "': " + what);
    }

    private long elements() {
        return (long) rows() * cols();
    }

    private long blocks() {
        return BlockQuantizer.blocks(elements(), state.blockSize());
    }

    private QuantState.Nested nested() {
        QuantState.Nested nested = state.nested();
        if (nested == null) {
            throw new IllegalStateException("tensor '" + packed.name() + "' has no double quantization");
        }
        return nested;
    }

    @Override
    public int rows() {
        return state.shape().get(0);
    }

    @Override
    public int cols() {
        return state.shape().get(1);
    }

    @Override
    public DType dtype() {
        return state.dtype();
    }

    /** fp32 scales of a range of blocks; with double quantization from its two levels, in two roundings. */
    float[] scales(TensorFiles files, long firstBlock, int count) {
        if (state.nested() == null) {
            return floats(files, absmax, firstBlock, count);
        }
        byte[] codes = new byte[count];
        files.readBytes(absmax, firstBlock, ByteBuffer.wrap(codes));
        int size = nested().blockSize();
        long firstScale = firstBlock / size;
        float[] absmax2 = floats(
                files,
                files.get(packed.name() + ".nested_absmax"),
                firstScale,
                (int) ((firstBlock + count - 1) / size - firstScale) + 1);
        float[] map = dynamicMap(files);
        float[] scales = new float[count];
        for (int i = 0; i < count; i++) {
            float scaled = map[codes[i] & 255] * absmax2[(int) ((firstBlock + i) / size - firstScale)];
            scales[i] = scaled + nested().offset();
        }
        return scales;
    }

    /** The second-level scales. */
    float[] absmax2(TensorFiles files) {
        int count = Math.toIntExact(BlockQuantizer.blocks(blocks(), nested().blockSize()));
        return floats(files, files.get(packed.name() + ".nested_absmax"), 0, count);
    }

    /** The 256 values of the second level. */
    float[] dynamicMap(TensorFiles files) {
        return floats(files, files.get(packed.name() + ".nested_quant_map"), 0, DynamicMap.SIZE);
    }

    private static float[] floats(TensorFiles files, StoredTensor t, long first, int count) {
        float[] values = new float[count];
        files.readFloats(t, first, count, values, 0);
        return values;
    }

    @Override
    public void dequantize(TensorFiles files, long firstElement, int count, float[] dst, int dstOffset) {
        if (count == 0) {
            return;
        }
        int blockSize = state.blockSize();
        long firstBlock = firstElement / blockSize;
        long start = firstBlock * blockSize;
        byte[] codes = new byte[(int) (BlockQuantizer.packedBytes(firstElement + count) - start / 2)];
        files.readBytes(packed, start / 2, ByteBuffer.wrap(codes));
        float[] scales = scales(files, firstBlock, (int) ((firstElement + count - 1) / blockSize - firstBlock) + 1);
        BlockQuantizer.dequantize(state.type(), blockSize, codes, scales, firstElement - start, count, dst, dstOffset);
        FloatFormats.round(dtype(), dst, dstOffset, count);
    }
}
