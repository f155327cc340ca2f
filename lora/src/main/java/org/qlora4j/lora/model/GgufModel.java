package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;

/**
 * A Llama model in GGUF under Hugging Face's names. llama.cpp stores the rows of q and k so that rotary pairs lie side
 * by side; they are put back into halves here.
 */
final class GgufModel implements TensorFiles {
    private static final Pattern BLOCK = Pattern.compile("blk\\.(\\d{1,5})\\.([a-z_]+)\\.(weight|bias)");
    private static final Map<String, String> MODULES = Map.of(
            "attn_norm", "input_layernorm",
            "attn_q", "self_attn.q_proj",
            "attn_k", "self_attn.k_proj",
            "attn_v", "self_attn.v_proj",
            "attn_output", "self_attn.o_proj",
            "ffn_norm", "post_attention_layernorm",
            "ffn_gate", "mlp.gate_proj",
            "ffn_up", "mlp.up_proj",
            "ffn_down", "mlp.down_proj");

    private final Gguf gguf;
    private final int headDim;
    private final Map<String, StoredTensor> tensors;

    GgufModel(Gguf gguf, ModelConfig config) {
        this.gguf = gguf;
        this.headDim = config.headDim();
        Map<String, StoredTensor> map = new LinkedHashMap<>();
        for (String name : gguf.names()) {
            String hf = huggingFaceName(name);
            if (hf != null) {
                StoredTensor t = gguf.get(name);
                map.put(hf, new StoredTensor(hf, t.type(), t.shape(), t.file(), t.offset(), t.byteLength()));
            }
        }
        this.tensors = Collections.unmodifiableMap(map);
    }

    private static @Nullable String huggingFaceName(String name) {
        switch (name) {
            case "token_embd.weight":
                return "model.embed_tokens.weight";
            case "output_norm.weight":
                return "model.norm.weight";
            case "output.weight":
                return "lm_head.weight";
            default:
                Matcher m = BLOCK.matcher(name);
                String module = m.matches() ? MODULES.get(m.group(2)) : null;
                return module == null ? null : "model.layers." + m.group(1) + "." + module + "." + m.group(3);
        }
    }

    /** config.json as transformers would write it. */
    static ObjectNode config(Gguf gguf) {
        Object architecture = gguf.metadata().get("general.architecture");
        if (!"llama".equals(architecture)) {
            throw new UnsupportedModelException(gguf.location() + ": architecture '" + architecture
                    + "' is not supported in GGUF; supported: llama");
        }
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.putArray("architectures").add("LlamaForCausalLM");
        json.put("model_type", "llama");
        json.put("hidden_act", "silu");
        int heads = integer(gguf, "llama.attention.head_count");
        int hidden = integer(gguf, "llama.embedding_length");
        json.put("vocab_size", Math.toIntExact(gguf.get("token_embd.weight").dim(0)));
        json.put("hidden_size", hidden);
        json.put("intermediate_size", integer(gguf, "llama.feed_forward_length"));
        json.put("num_hidden_layers", integer(gguf, "llama.block_count"));
        json.put("num_attention_heads", heads);
        json.put("num_key_value_heads", optional(gguf, "llama.attention.head_count_kv", heads));
        json.put("head_dim", optional(gguf, "llama.attention.key_length", heads == 0 ? 0 : hidden / heads));
        json.put("max_position_embeddings", optional(gguf, "llama.context_length", 2048));
        json.put("rms_norm_eps", decimal(gguf, "llama.attention.layer_norm_rms_epsilon", 1e-5));
        json.put("rope_theta", decimal(gguf, "llama.rope.freq_base", 10000));
        if (gguf.find("rope_freqs.weight").isPresent()) {
            throw new UnsupportedModelException(
                    gguf.location()
                            + ": scaled rotary frequencies (rope_freqs.weight) are not supported in GGUF; use the Hugging Face folder");
        }
        Object scaling = gguf.metadata().getOrDefault("llama.rope.scaling.type", "none");
        if ("linear".equals(scaling)) {
            json.putObject("rope_scaling")
                    .put("rope_type", "linear")
                    .put("factor", decimal(gguf, "llama.rope.scaling.factor", 1));
        } else if (!"none".equals(scaling)) {
            throw new UnsupportedModelException(gguf.location() + ": llama.rope.scaling.type '" + scaling
                    + "' is not supported; supported: none, linear");
        }
        json.put("attention_bias", gguf.find("blk.0.attn_q.bias").isPresent());
        json.put("mlp_bias", gguf.find("blk.0.ffn_gate.bias").isPresent());
        json.put("tie_word_embeddings", gguf.find("output.weight").isEmpty());
        json.put("torch_dtype", "bfloat16");
        tokenId(gguf, json, "bos_token_id", "tokenizer.ggml.bos_token_id");
        tokenId(gguf, json, "eos_token_id", "tokenizer.ggml.eos_token_id");
        tokenId(gguf, json, "pad_token_id", "tokenizer.ggml.padding_token_id");
        return json;
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

    private boolean isInterleaved(StoredTensor t) {
        return t.name().contains(".self_attn.q_proj.") || t.name().contains(".self_attn.k_proj.");
    }

    @Override
    public Path location() {
        return gguf.location();
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
    public void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        if (!isInterleaved(t)) {
            gguf.readFloats(t, firstElement, count, dst, dstOffset);
            return;
        }
        int rowLength = t.rank() == 1 ? 1 : Math.toIntExact(t.dim(1));
        if (firstElement % rowLength != 0 || count % rowLength != 0) {
            throw new IllegalArgumentException(
                    "tensor '" + t.name() + "' is read in whole rows of " + rowLength + " only");
        }
        for (int r = 0; r < count / rowLength; r++) {
            long row = firstElement / rowLength + r;
            long head = row / headDim;
            long inHead = row % headDim;
            // row (half p, pair i) of Hugging Face is row 2i + p of llama.cpp
            long stored = head * headDim + inHead % (headDim / 2) * 2 + inHead / (headDim / 2);
            gguf.readFloats(t, stored * rowLength, rowLength, dst, dstOffset + r * rowLength);
        }
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        refuseInterleaved(t);
        return gguf.readBytes(t);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        refuseInterleaved(t);
        gguf.readBytes(t, offset, dst);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        refuseInterleaved(t);
        gguf.readBytes(t, offset, dst);
    }

    private void refuseInterleaved(StoredTensor t) {
        if (isInterleaved(t)) {
            throw new IllegalArgumentException(
                    "tensor '" + t.name() + "' has its rows in llama.cpp's order; read it as floats");
        }
    }

    @Override
    public void close() {
        gguf.close();
    }
}
