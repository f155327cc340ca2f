package org.qlora4j.samples.bench;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Locale;

/**
 * Sizes of a model of family qwen3, whose weights a benchmark makes up.
 *
 * @param tokens of the row it is trained on
 */
public record ModelShape(
        String name,
        int layers,
        int hidden,
        int intermediate,
        int heads,
        int kvHeads,
        int headDim,
        int vocab,
        int tokens) {
    /** Qwen3-14B at batch 1 × 2048. */
    public static final ModelShape QWEN3_14B = new ModelShape("qwen3-14b", 40, 5120, 17408, 40, 8, 128, 151_936, 2048);

    /** Runs on a simulated GPU in seconds. */
    public static final ModelShape TINY = new ModelShape("tiny", 2, 128, 256, 2, 1, 64, 512, 48);

    /** LoRA's rank in the benchmarks. */
    static final int RANK = 8;

    /** @throws IllegalArgumentException for another name than those above */
    public static ModelShape of(String name) {
        return switch (name.toLowerCase(Locale.ROOT)) {
            case "qwen3-14b" -> QWEN3_14B;
            case "tiny" -> TINY;
            default -> throw new IllegalArgumentException("size must be qwen3-14b or tiny, got '" + name + "'");
        };
    }

    /** The same with fewer layers or tokens. */
    public ModelShape with(int layers, int tokens) {
        return new ModelShape(name, layers, hidden, intermediate, heads, kvHeads, headDim, vocab, tokens);
    }

    int queryWidth() {
        return heads * headDim;
    }

    int keyWidth() {
        return kvHeads * headDim;
    }

    /** Weights of the linear layers, the output layer aside. */
    public long linearWeights() {
        long attention = 2L * hidden * queryWidth() + 2L * hidden * keyWidth();
        return layers * (attention + 3L * hidden * intermediate);
    }

    /** Weights of the output layer, and of the embedding. */
    public long outputWeights() {
        return (long) vocab * hidden;
    }

    /** Parameters of LoRA on all linear layers. */
    int loraParameters() {
        int attention = 2 * (hidden + queryWidth()) + 2 * (hidden + keyWidth());
        return Math.multiplyExact(layers * RANK, attention + 3 * (hidden + intermediate));
    }

    /** Pairs of a query and a key that it sees, in all heads of a layer. */
    double scores() {
        return heads * (tokens * (tokens + 1.0) / 2);
    }

    /**
     * Products of a training step: forward and input gradients of the linear layers, twice forward with checkpointing;
     * output layer; attention with 2 products forward and 5 back; LoRA's.
     */
    public double stepFlops(boolean checkpointing) {
        int forward = checkpointing ? 2 : 1;
        double attention = layers * scores() * headDim * 2 * (2 * forward + 5);
        return 2.0 * tokens * (linearWeights() * (forward + 1.0) + 2.0 * outputWeights())
                + attention
                + 2.0 * tokens * loraParameters() * (forward + 2.0);
    }

    /** As config.json has it. */
    public ObjectNode config() {
        return JsonNodeFactory.instance
                .objectNode()
                .put("model_type", "qwen3")
                .put("vocab_size", vocab)
                .put("hidden_size", hidden)
                .put("intermediate_size", intermediate)
                .put("num_hidden_layers", layers)
                .put("num_attention_heads", heads)
                .put("num_key_value_heads", kvHeads)
                .put("head_dim", headDim)
                .put("max_position_embeddings", 40_960)
                .put("rms_norm_eps", 1e-6)
                .put("rope_theta", 1_000_000)
                .put("hidden_act", "silu")
                .put("attention_bias", false)
                .put("tie_word_embeddings", false)
                .put("torch_dtype", "bfloat16");
    }
}
