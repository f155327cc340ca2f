package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.StoredTensor;

/** config.json and the metadata of a GGUF file, both ways. */
public final class GgufConfig {
    /** The name of the tensor with {@link #frequencyFactors}. */
    public static final String ROPE_FREQS = "rope_freqs.weight";

    private GgufConfig() {}

    /**
     * The metadata of a model.
     *
     * @throws UnsupportedModelException if llama.cpp cannot express the configuration
     */
    public static Map<String, Object> metadata(ModelConfig c) {
        String arch = GgufArchitecture.ofModelType(c.modelType()).ggufName();
        RopeScaling rope = rope(c);
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("general.architecture", arch);
        map.put(arch + ".block_count", c.layers().size());
        map.put(arch + ".context_length", contextLength(c));
        map.put(arch + ".embedding_length", c.hiddenSize());
        map.put(arch + ".feed_forward_length", c.intermediateSize());
        map.put(arch + ".attention.head_count", c.numHeads());
        map.put(arch + ".attention.head_count_kv", c.numKvHeads());
        map.put(arch + ".attention.key_length", c.headDim());
        map.put(arch + ".attention.value_length", c.headDim());
        map.put(arch + ".attention.layer_norm_rms_epsilon", (float) c.rmsNormEps());
        map.put(arch + ".rope.dimension_count", c.headDim());
        map.put(arch + ".rope.freq_base", (float) rope.theta());
        map.put(arch + ".vocab_size", c.vocabSize());
        if (frequencyFactors(c).isEmpty()) {
            switch (rope) {
                case RopeScaling.Linear linear -> {
                    map.put(arch + ".rope.scaling.type", "linear");
                    map.put(arch + ".rope.scaling.factor", (float) linear.factor());
                }
                case RopeScaling.Plain _ -> {}
                default ->
                    throw new UnsupportedModelException(
                            "rope scaling " + rope.getClass().getSimpleName() + " cannot be written to GGUF");
            }
        }
        return map;
    }

    /** llama.cpp's architectures here have one set of frequencies and see all tokens. */
    private static RopeScaling rope(ModelConfig c) {
        LayerConfig layer = c.layers().getFirst();
        RopeScaling rope = layer.rope();
        if (rope == null || c.layers().stream().anyMatch(l -> !l.equals(layer))) {
            throw new UnsupportedModelException(
                    "layers that differ in window or rotary frequencies cannot be written to GGUF");
        }
        return rope;
    }

    /** Without its sliding window a model computes the same only as far as the window reaches. */
    private static int contextLength(ModelConfig c) {
        int window = c.layers().getFirst().slidingWindow();
        return window == 0 ? c.maxPositionEmbeddings() : Math.min(window, c.maxPositionEmbeddings());
    }

    /**
     * What each rotary frequency is divided by, for {@link #ROPE_FREQS}, where llama.cpp wants it written out: Llama
     * 3's scaling.
     */
    public static Optional<float[]> frequencyFactors(ModelConfig c) {
        RopeScaling rope = rope(c);
        boolean sameForEveryLength = rope instanceof RopeScaling.LongRope longRope
                && longRope.shortFactor().equals(longRope.longFactor())
                && longRope.attentionFactor() == 1;
        if (!(rope instanceof RopeScaling.Llama3) && !sameForEveryLength) {
            return Optional.empty();
        }
        float[] factors = new RopeScaling.Plain(rope.theta()).inverseFrequencies(c.headDim());
        float[] scaled = rope.inverseFrequencies(c.headDim());
        for (int i = 0; i < factors.length; i++) {
            factors[i] /= scaled[i];
        }
        return Optional.of(factors);
    }

    /** config.json as transformers would write it. */
    static ObjectNode read(Gguf gguf) {
        Object name = gguf.metadata().get("general.architecture");
        GgufArchitecture architecture = GgufArchitecture.ofGguf(name)
                .orElseThrow(() -> new UnsupportedModelException(gguf.location() + ": architecture '" + name
                        + "' is not supported in GGUF; supported: " + GgufArchitecture.supported()));
        String arch = architecture.ggufName();
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.putArray("architectures").add(architecture.className());
        json.put("model_type", architecture.modelType());
        json.put("hidden_act", "silu");
        int heads = integer(gguf, arch + ".attention.head_count");
        int hidden = integer(gguf, arch + ".embedding_length");
        json.put("vocab_size", Math.toIntExact(gguf.get("token_embd.weight").dim(0)));
        json.put("hidden_size", hidden);
        json.put("intermediate_size", integer(gguf, arch + ".feed_forward_length"));
        json.put("num_hidden_layers", integer(gguf, arch + ".block_count"));
        json.put("num_attention_heads", heads);
        json.put("num_key_value_heads", optional(gguf, arch + ".attention.head_count_kv", heads));
        json.put("head_dim", optional(gguf, arch + ".attention.key_length", heads == 0 ? 0 : hidden / heads));
        json.put("max_position_embeddings", optional(gguf, arch + ".context_length", 2048));
        json.put("rms_norm_eps", decimal(gguf, arch + ".attention.layer_norm_rms_epsilon", 1e-5));
        json.put("rope_theta", decimal(gguf, arch + ".rope.freq_base", 10000));
        rope(gguf, arch, json);
        json.put("attention_bias", gguf.find("blk.0.attn_q.bias").isPresent());
        json.put("mlp_bias", gguf.find("blk.0.ffn_gate.bias").isPresent());
        json.put("tie_word_embeddings", gguf.find("output.weight").isEmpty());
        json.put("torch_dtype", "bfloat16");
        tokenId(gguf, json, "bos_token_id", "tokenizer.ggml.bos_token_id");
        tokenId(gguf, json, "eos_token_id", "tokenizer.ggml.eos_token_id");
        tokenId(gguf, json, "pad_token_id", "tokenizer.ggml.padding_token_id");
        return json;
    }

    private static void rope(Gguf gguf, String arch, ObjectNode json) {
        Object scaling = gguf.metadata().getOrDefault(arch + ".rope.scaling.type", "none");
        Optional<StoredTensor> written = gguf.find(ROPE_FREQS);
        if (written.isPresent()) {
            // what each frequency is divided by: longrope, with the same factors for every length
            float[] factors = new float[Math.toIntExact(written.get().elements())];
            gguf.readFloats(written.get(), 0, factors.length, factors, 0);
            ObjectNode rope = json.putObject("rope_scaling").put("rope_type", "longrope");
            rope.put("factor", 1.0).put("attention_factor", 1.0);
            ArrayNode shortFactor = rope.putArray("short_factor");
            ArrayNode longFactor = rope.putArray("long_factor");
            for (float factor : factors) {
                shortFactor.add(factor);
                longFactor.add(factor);
            }
        } else if ("linear".equals(scaling)) {
            json.putObject("rope_scaling")
                    .put("rope_type", "linear")
                    .put("factor", decimal(gguf, arch + ".rope.scaling.factor", 1));
        } else if (!"none".equals(scaling)) {
            throw new UnsupportedModelException(gguf.location() + ": " + arch + ".rope.scaling.type '" + scaling
                    + "' is not supported; supported: none, linear");
        }
    }

    private static void tokenId(Gguf gguf, ObjectNode json, String key, String ggufKey) {
        if (gguf.metadata().get(ggufKey) instanceof Long id) {
            json.put(key, id);
        }
    }

    private static int integer(Gguf gguf, String key) {
        Object value = gguf.metadata().get(key);
        if (!(value instanceof Long v) || v < 0 || v > Integer.MAX_VALUE) {
            throw new ModelFormatException(
                    gguf.location(), "metadata '" + key + "' must be an integer, found " + value);
        }
        return v.intValue();
    }

    private static int optional(Gguf gguf, String key, int otherwise) {
        return gguf.metadata().containsKey(key) ? integer(gguf, key) : otherwise;
    }

    /** GGUF holds fp32: the shortest decimal that rounds to it is the number meant, 1e-5 and not 9.999999747e-6. */
    private static double decimal(Gguf gguf, String key, double otherwise) {
        Object value = gguf.metadata().getOrDefault(key, otherwise);
        if (!(value instanceof Double v) || !Double.isFinite(v)) {
            throw new ModelFormatException(gguf.location(), "metadata '" + key + "' must be a number, found " + value);
        }
        return Double.parseDouble(Float.toString(v.floatValue()));
    }
}
