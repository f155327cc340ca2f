package org.qlora4j.lora.model;

import java.util.List;
import org.qlora4j.nf4.tensor.DType;

/**
 * Every difference between models of the supported families, in Hugging Face's words.
 *
 * @param modelType {@code model_type} of config.json, e.g. {@code llama}
 * @param vocabSize rows of the embedding
 * @param hiddenSize C
 * @param intermediateSize width of the feed-forward block
 * @param numHeads {@code num_attention_heads}
 * @param numKvHeads {@code num_key_value_heads}
 * @param headDim elements per head
 * @param rotaryDim how many elements of each head are rotated, the first ones
 * @param maxPositionEmbeddings longest sequence the model was made for, in tokens
 * @param rmsNormEps added to the mean square, e.g. 1e-5
 * @param norms where the norms of a layer stand
 * @param normAddsOne whether files hold w of a norm that multiplies by 1 + w
 * @param qkNorm norms on queries and keys
 * @param qkvBias whether q, k and v have biases
 * @param outputBias whether o has a bias
 * @param mlpBias whether gate, up and down have biases
 * @param fusedProjections whether q, k, v are one layer {@code qkv_proj} and gate, up one layer {@code gate_up_proj}
 * @param activation of the feed-forward block
 * @param attentionScale factor on the attention scores, usually 1/√headDim
 * @param attentionSoftcap {@code attn_logit_softcapping}, 0 for none
 * @param finalSoftcap {@code final_logit_softcapping}, 0 for none
 * @param scaleEmbedding whether embeddings are multiplied by √hiddenSize
 * @param tieWordEmbeddings whether the output layer is the embedding
 * @param layers what each layer has of its own, {@code num_hidden_layers} of them
 * @param dtype the dtype the weights were stored in
 */
public record ModelConfig(
        String modelType,
        int vocabSize,
        int hiddenSize,
        int intermediateSize,
        int numHeads,
        int numKvHeads,
        int headDim,
        int rotaryDim,
        int maxPositionEmbeddings,
        double rmsNormEps,
        NormPlacement norms,
        boolean normAddsOne,
        QkNorm qkNorm,
        boolean qkvBias,
        boolean outputBias,
        boolean mlpBias,
        boolean fusedProjections,
        Activation activation,
        double attentionScale,
        double attentionSoftcap,
        double finalSoftcap,
        boolean scaleEmbedding,
        boolean tieWordEmbeddings,
        List<LayerConfig> layers,
        DType dtype) {

    // Above these a config is damaged, not large: they keep sizes inside int and memory inside reason.
    static final int MAX_WIDTH = 1 << 20;
    static final int MAX_LAYERS = 4096;
    private static final int MAX_EXPERTS_OF_ALL_LAYERS = 1 << 18;

    public ModelConfig {
        layers = List.copyOf(layers);
        check("vocab_size", vocabSize, 1, 1 << 24);
        check("hidden_size", hiddenSize, 1, MAX_WIDTH);
        check("intermediate_size", intermediateSize, 1, MAX_WIDTH);
        check("num_hidden_layers", layers.size(), 1, MAX_LAYERS);
        int experts = layers.stream()
                .mapToInt(layer -> layer.experts() == null ? 0 : layer.experts().numExperts())
                .sum();
        check("the number of experts in all layers", experts, 0, MAX_EXPERTS_OF_ALL_LAYERS);
        check("num_attention_heads", numHeads, 1, MAX_WIDTH);
        check("num_key_value_heads", numKvHeads, 1, numHeads);
        check("head_dim", headDim, 2, MAX_WIDTH / numHeads);
        check("max_position_embeddings", maxPositionEmbeddings, 1, Integer.MAX_VALUE);
        if (numHeads % numKvHeads != 0) {
            throw new IllegalArgumentException(
                    "num_attention_heads " + numHeads + " is not a multiple of num_key_value_heads " + numKvHeads);
        }
        if (rotaryDim < 1 || rotaryDim + rotaryDim % 2 > headDim) {
            throw new IllegalArgumentException("rotary embedding turns pairs of elements: " + rotaryDim
                    + " elements do not fit into a head_dim of " + headDim);
        }
        checkSoftcap("attn_logit_softcapping", attentionSoftcap);
        checkSoftcap("final_logit_softcapping", finalSoftcap);
        if (!(rmsNormEps >= 0 && rmsNormEps < 1)) {
            throw new IllegalArgumentException("rms_norm_eps must be in [0, 1), got " + rmsNormEps);
        }
    }

    static void check(String key, int value, int low, int high) {
        if (value < low || value > high) {
            throw new IllegalArgumentException(key + " must be in " + low + " … " + high + ", got " + value);
        }
    }

    private static void checkSoftcap(String key, double value) {
        if (!(value >= 0 && value <= Float.MAX_VALUE)) {
            throw new IllegalArgumentException(key + " must be positive or null, got " + value);
        }
    }

    /** {@code num_hidden_layers}. */
    public int numLayers() {
        return layers.size();
    }

    /** Rows of more tokens than this turn by other rotary frequencies than shorter ones. */
    int longRowsAbove() {
        return layers.stream()
                .map(LayerConfig::rope)
                .mapToInt(rope -> rope == null ? Integer.MAX_VALUE : rope.longRowsAbove())
                .min()
                .orElseThrow();
    }

    /** Whether such rows turn by other frequencies for each length. */
    boolean ropeChangesWithLength() {
        return layers.stream()
                .anyMatch(layer -> layer.rope() != null && layer.rope().changesWithLength());
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
