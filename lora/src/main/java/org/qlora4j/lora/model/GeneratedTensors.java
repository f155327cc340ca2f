package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.qlora4j.nf4.file.StorageType;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;

/**
 * Weights that are made while they are read, from their names and places: a model of any size for measurements, without
 * a file.
 *
 * @param tensors by name
 * @param values what they hold
 */
public record GeneratedTensors(Map<String, StoredTensor> tensors, Values values) implements TensorFiles {
    private static final Path NOWHERE = Path.of("generated");

    /** Half the width of a uniform distribution with deviation 0.02, over 2¹⁵. */
    private static final float WIDTH = (float) (0.02 * Math.sqrt(3) / 32768);

    /** Makes values. */
    public interface Values {
        /** Sets {@code dst[dstOffset …]} to {@code count} elements of a tensor; the same whatever the pieces. */
        void generate(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset);
    }

    /**
     * A dense model with a matrix for each projection, with or without norms of queries and keys: norms of ones,
     * matrices of deviation 0.02.
     *
     * @param json its config.json
     */
    public static ModelSource model(ObjectNode json, long seed) {
        ModelConfig c = ModelFamily.read(Path.of("config.json"), json);
        Map<String, StoredTensor> tensors = new LinkedHashMap<>();
        add(tensors, "model.embed_tokens.weight", c.vocabSize(), c.hiddenSize());
        for (int i = 0; i < c.numLayers(); i++) {
            String layer = "model.layers." + i + ".";
            add(tensors, layer + "input_layernorm.weight", c.hiddenSize());
            add(tensors, layer + "post_attention_layernorm.weight", c.hiddenSize());
            add(tensors, layer + "self_attn.q_norm.weight", c.headDim());
            add(tensors, layer + "self_attn.k_norm.weight", c.headDim());
            add(tensors, layer + "self_attn.q_proj.weight", c.queryWidth(), c.hiddenSize());
            add(tensors, layer + "self_attn.k_proj.weight", c.keyWidth(), c.hiddenSize());
            add(tensors, layer + "self_attn.v_proj.weight", c.keyWidth(), c.hiddenSize());
            add(tensors, layer + "self_attn.o_proj.weight", c.hiddenSize(), c.queryWidth());
            add(tensors, layer + "mlp.gate_proj.weight", c.intermediateSize(), c.hiddenSize());
            add(tensors, layer + "mlp.up_proj.weight", c.intermediateSize(), c.hiddenSize());
            add(tensors, layer + "mlp.down_proj.weight", c.hiddenSize(), c.intermediateSize());
        }
        add(tensors, "model.norm.weight", c.hiddenSize());
        add(tensors, "lm_head.weight", c.vocabSize(), c.hiddenSize());
        Values values = (t, first, count, dst, offset) -> {
            if (t.rank() == 1) {
                Arrays.fill(dst, offset, offset + count, 1f);
            } else {
                uniform(mix(seed ^ t.name().hashCode()), first, count, dst, offset);
            }
        };
        return new ModelSource(NOWHERE, new GeneratedTensors(tensors, values), json, c);
    }

    private static void add(Map<String, StoredTensor> tensors, String name, long... shape) {
        tensors.put(name, tensor(name, DType.BF16, Arrays.stream(shape).boxed().toList()));
    }

    /** A tensor to be made, of a type in which it would lie in a file. */
    public static StoredTensor tensor(String name, DType type, List<Long> shape) {
        long bytes = shape.stream().reduce((long) type.bytes(), Math::multiplyExact);
        return new StoredTensor(name, new StorageType.Plain(type), shape, NOWHERE, 0, bytes);
    }

    /** Four values from each hash of their place. */
    private static void uniform(long seed, long first, int count, float[] dst, int offset) {
        for (int i = 0; i < count; i++) {
            long element = first + i;
            long hash = mix(seed ^ element >>> 2);
            dst[offset + i] = ((hash >>> (int) (element & 3) * 16 & 0xFFFF) - 32768) * WIDTH;
        }
    }

    /** SplitMix64's output function. */
    public static long mix(long value) {
        long z = (value ^ value >>> 30) * 0xBF58476D1CE4E5B9L;
        z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
        return z ^ z >>> 31;
    }

    @Override
    public void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        values.generate(t, firstElement, count, dst, dstOffset);
    }

    @Override
    public Path location() {
        return NOWHERE;
    }

    @Override
    public Set<String> names() {
        return tensors.keySet();
    }

    @Override
    public Optional<StoredTensor> find(String name) {
        return Optional.ofNullable(tensors.get(name));
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        throw new UnsupportedOperationException("weights are generated as floats");
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        readBytes(t);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        readBytes(t);
    }

    @Override
    public void close() {}
}
