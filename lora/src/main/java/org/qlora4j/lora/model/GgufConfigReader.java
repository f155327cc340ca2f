package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.qlora4j.nf4.file.Gguf;

/** Makes the config.json that transformers would write from the metadata of a GGUF file. */
final class GgufConfigReader {
    private final Gguf gguf;
    private final GgufArchitecture architecture;
    private final GgufKeys keys;
    private final ObjectNode json = JsonNodeFactory.instance.objectNode();

    private GgufConfigReader(Gguf gguf, GgufArchitecture architecture) {
        this.gguf = gguf;
        this.architecture = architecture;
        this.keys = new GgufKeys(gguf, architecture);
    }

    /** @throws UnsupportedModelException if the architecture is not supported */
    static ObjectNode read(Gguf gguf) {
        Object name = gguf.metadata().get("general.architecture");
        GgufArchitecture architecture = GgufArchitecture.ofGguf(name)
                .orElseThrow(() -> new UnsupportedModelException(gguf.location() + ": architecture '" + name
                        + "' is not supported in GGUF; supported: " + GgufArchitecture.supported()));
        return new GgufConfigReader(gguf, architecture).read();
    }

    private ObjectNode read() {
        json.putArray("architectures").add(architecture.className());
        json.put("model_type", architecture.modelType());
        sizes();
        json.put("attention_bias", gguf.find("blk.0.attn_q.bias").isPresent());
        json.put("mlp_bias", gguf.find("blk.0.ffn_gate.bias").isPresent());
        json.put("tie_word_embeddings", gguf.find("output.weight").isEmpty());
        json.put("torch_dtype", "bfloat16");
        switch (architecture) {
            case GEMMA2, GEMMA3 -> gemma();
            case QWEN3MOE -> experts();
            case PHI3 -> phi3();
            case SMOLLM3 -> json.put("no_rope_layer_interval", 4);
            case LLAMA, QWEN2, QWEN3, OLMO2 -> {}
        }
        GgufRope.read(gguf, architecture, keys, json);
        tokenId("bos_token_id", "tokenizer.ggml.bos_token_id");
        tokenId("eos_token_id", "tokenizer.ggml.eos_token_id");
        tokenId("pad_token_id", "tokenizer.ggml.padding_token_id");
        return json;
    }

    private void sizes() {
        int heads = keys.integer("attention.head_count");
        int hidden = keys.integer("embedding_length");
        int headDim = keys.integer("attention.key_length", heads == 0 ? 0 : hidden / heads);
        int valueDim = keys.integer("attention.value_length", headDim);
        int rotaryDim = keys.integer("rope.dimension_count", headDim);
        if (valueDim != headDim || rotaryDim != headDim && architecture != GgufArchitecture.PHI3) {
            throw new UnsupportedModelException(gguf.location() + ": heads of " + headDim + " elements in q and k, "
                    + valueDim + " in v, of which " + rotaryDim + " are rotated, are not supported");
        }
        json.put(gemmaOr("hidden_activation", "hidden_act"), gemmaOr("gelu_pytorch_tanh", "silu"));
        json.put("vocab_size", Math.toIntExact(gguf.get("token_embd.weight").dim(0)));
        json.put("hidden_size", hidden);
        json.put("intermediate_size", keys.integer("feed_forward_length"));
        json.put("num_hidden_layers", keys.integer("block_count"));
        json.put("num_attention_heads", heads);
        json.put("num_key_value_heads", keys.integer("attention.head_count_kv", heads));
        json.put("head_dim", headDim);
        json.put("max_position_embeddings", keys.integer("context_length", 2048));
        json.put("rms_norm_eps", keys.decimal("attention.layer_norm_rms_epsilon", 1e-5));
        json.put("rope_theta", keys.decimal("rope.freq_base", 10000));
    }

    private String gemmaOr(String gemma, String other) {
        return architecture == GgufArchitecture.GEMMA2 || architecture == GgufArchitecture.GEMMA3 ? gemma : other;
    }

    private void gemma() {
        String type = architecture.modelType();
        boolean second = architecture == GgufArchitecture.GEMMA2;
        int layers = json.path("num_hidden_layers").asInt();
        json.put(
                "query_pre_attn_scalar",
                GgufValues.scoreDim(
                        type,
                        layers,
                        json.path("hidden_size").asInt(),
                        Math.max(1, json.path("num_attention_heads").asInt()),
                        json.path("head_dim").asInt()));
        int pattern = Math.max(1, keys.integer("attention.sliding_window_pattern", GgufConfig.usualPattern(type)));
        int window = keys.integer("attention.sliding_window", second ? 4096 : 0);
        ArrayNode types = json.putArray("layer_types");
        for (int i = 0; i < Math.min(layers, ModelConfig.MAX_LAYERS); i++) {
            types.add(window > 0 && GgufConfig.slides(i, pattern) ? "sliding_attention" : "full_attention");
        }
        json.put("sliding_window", window == 0 ? null : (Integer) window);
        if (second) {
            json.put("attn_logit_softcapping", keys.decimal("attn_logit_softcapping", 50));
            json.put("final_logit_softcapping", keys.decimal("final_logit_softcapping", 30));
        } else {
            json.put("rope_local_base_freq", keys.decimal("rope.freq_base_swa", 10000));
            double cap = keys.decimal("final_logit_softcapping", 0);
            json.put("final_logit_softcapping", cap == 0 ? null : (Double) cap);
        }
    }

    private void experts() {
        json.put("num_experts", keys.integer("expert_count"));
        json.put("num_experts_per_tok", keys.integer("expert_used_count"));
        json.put("moe_intermediate_size", keys.integer("expert_feed_forward_length"));
        json.put("norm_topk_prob", true); // llama.cpp's qwen3moe knows nothing else
        json.put("decoder_sparse_step", 1);
    }

    private void phi3() {
        int headDim = json.path("head_dim").asInt();
        int rotaryDim = keys.integer("rope.dimension_count", headDim);
        double factor = (double) rotaryDim / headDim;
        // its product with head_dim is cut off to an integer
        json.put("partial_rotary_factor", (int) (factor * headDim) < rotaryDim ? Math.nextUp(factor) : factor);
        int window = keys.integer("attention.sliding_window", 0);
        json.put("sliding_window", window == 0 ? null : (Integer) window);
    }

    private void tokenId(String key, String ggufKey) {
        if (gguf.metadata().get(ggufKey) instanceof Long id) {
            json.put(key, id);
        }
    }
}
