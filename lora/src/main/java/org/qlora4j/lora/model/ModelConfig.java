package org.qlora4j.lora.model;

import org.qlora4j.nf4.tensor.DType;

/**
 * Every difference between models of the supported families, in Hugging Face's words.
 *
 * @param modelType {@code model_type} of config.json, e.g. {@code llama}
 * @param vocabSize rows of the embedding
 * @param hiddenSize C
 * @param intermediateSize width of the feed-forward block
 * @param numLayers {@code num_hidden_layers}
 * @param numHeads {@code num_attention_heads}
 * @param numKvHeads {@code num_key_value_heads}
 * @param headDim elements per head
 * @param maxPositionEmbeddings longest sequence the model was made for, in tokens
 * @param rmsNormEps added to the mean square, e.g. 1e-5
 * @param rope rotary frequencies
 * @param attentionBias whether q, k, v and o have biases
 * @param mlpBias whether gate, up and down have biases
 * @param tieWordEmbeddings whether the output layer is the embedding
 * @param dtype the dtype the weights were stored in
 */
public record ModelConfig(
        String modelType,
        int vocabSize,
        int hiddenSize,
        int intermediateSize,
        int numLayers,
        int numHeads,
        int numKvHeads,
        int headDim,
        int maxPositionEmbeddings,
        double rmsNormEps,
        RopeScaling rope,
        boolean attentionBias,
        boolean mlpBias,
        boolean tieWordEmbeddings,
        DType dtype) {

    // Above these a config is damaged, not large: they keep sizes inside int and memory inside reason.
    private static final int MAX_WIDTH = 1 << 20;
    private static final int MAX_LAYERS = 4096;

    public ModelConfig {
        check("vocab_size", vocabSize, 1, 1 << 24);
        check("hidden_size", hiddenSize, 1, MAX_WIDTH);
        check("intermediate_size", intermediateSize, 1, MAX_WIDTH);
        check("num_hidden_layers", numLayers, 1, MAX_LAYERS);
        check("num_attention_heads", numHeads, 1, MAX_WIDTH);
        check("num_key_value_heads", numKvHeads, 1, numHeads);
        check("head_dim", headDim, 2, MAX_WIDTH / numHeads);
        check("max_position_embeddings", maxPositionEmbeddings, 1, Integer.MAX_VALUE);
        if (numHeads % numKvHeads != 0) {
            throw new IllegalArgumentException(
                    "num_attention_heads " + numHeads + " is not a multiple of num_key_value_heads " + numKvHeads);
        }
        if (headDim % 2 != 0) {
            throw new IllegalArgumentException("head_dim must be even for rotary embedding, got " + headDim);
        }
        if (!(rmsNormEps >= 0 && rmsNormEps < 1)) {
            throw new IllegalArgumentException("rms_norm_eps must be in [0, 1), got " + rmsNormEps);
        }
    }

    private static void check(String key, int value, int low, int high) {
        if (value < low || value > high) {
            throw new IllegalArgumentException(key + " must be in " + low + " … " + high + ", got " + value);
        }
    }

    /** Factor on the attention scores, 1/√D. */
    public double attentionScale() {
        return 1 / Math.sqrt(headDim);
    }

    /** Width of q_proj's output and o_proj's input. */
    public int queryWidth() {
        return numHeads * headDim;
    }

    /** Width of k_proj's and v_proj's output. */
    public int keyWidth() {
        return numKvHeads * headDim;
    }
}
