package org.qlora4j.lora.model;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Set;

/** The metadata of a GGUF file from config.json; {@link GgufConfigReader} is the way back. */
public final class GgufConfig {
    private GgufConfig() {}

    /**
     * The metadata of a model.
     *
     * @throws UnsupportedModelException if llama.cpp cannot express the configuration
     */
    public static Map<String, Object> metadata(ModelConfig c) {
        GgufArchitecture architecture = GgufArchitecture.ofModelType(c.modelType());
        refuseWhatLlamaCppLacks(architecture, c);
        String arch = architecture.ggufName();
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("general.architecture", arch);
        map.put(arch + ".block_count", c.layers().size());
        map.put(arch + ".context_length", contextLength(architecture, c));
        map.put(arch + ".embedding_length", c.hiddenSize());
        map.put(arch + ".feed_forward_length", c.intermediateSize());
        map.put(arch + ".attention.head_count", c.numHeads());
        map.put(arch + ".attention.head_count_kv", c.numKvHeads());
        map.put(arch + ".attention.key_length", c.headDim());
        map.put(arch + ".attention.value_length", c.headDim());
        map.put(arch + ".attention.layer_norm_rms_epsilon", (float) c.rmsNormEps());
        map.put(arch + ".vocab_size", c.vocabSize());
        ExpertsConfig experts = c.layers().getFirst().experts();
        if (experts != null) {
            map.put(arch + ".expert_count", experts.numExperts());
            map.put(arch + ".expert_used_count", experts.numExpertsPerTok());
            map.put(arch + ".expert_feed_forward_length", experts.moeIntermediateSize());
        }
        if (hasWindows(architecture)) {
            windows(arch, c, map);
        }
        GgufRope.put(architecture, c, map);
        return map;
    }

    private static boolean hasWindows(GgufArchitecture architecture) {
        return architecture == GgufArchitecture.GEMMA2 || architecture == GgufArchitecture.GEMMA3;
    }

    /**
     * Where llama.cpp sees all tokens, a model with a sliding window computes the same as far as the window reaches.
     */
    private static int contextLength(GgufArchitecture architecture, ModelConfig c) {
        return hasWindows(architecture)
                ? c.maxPositionEmbeddings()
                : c.layers().stream()
                        .mapToInt(LayerConfig::slidingWindow)
                        .filter(window -> window > 0)
                        .reduce(c.maxPositionEmbeddings(), Math::min);
    }

    /** Gemma: all layers but each pattern-th have the window. */
    private static void windows(String arch, ModelConfig c, Map<String, Object> map) {
        int[] windows = c.layers().stream().mapToInt(LayerConfig::slidingWindow).toArray();
        int window = 0;
        int usual = usualPattern(c.modelType());
        int pattern = windows.length < usual ? usual : windows.length + 1;
        for (int i = windows.length - 1; i >= 0; i--) {
            window = Math.max(window, windows[i]);
            pattern = windows[i] == 0 ? i + 1 : pattern;
        }
        for (int i = 0; i < windows.length; i++) {
            if (windows[i] != (slides(i, pattern) ? window : 0)) {
                throw new UnsupportedModelException(
                        "llama.cpp's " + arch + " wants a full layer after each group of layers with a sliding window;"
                                + " windows here: " + Arrays.toString(windows));
            }
        }
        if (window == 0) {
            throw new UnsupportedModelException("llama.cpp's " + arch + " has sliding windows, this model has none");
        }
        map.put(arch + ".attention.sliding_window", window);
        if (pattern != usual) {
            map.put(arch + ".attention.sliding_window_pattern", pattern);
        }
        if (c.attentionSoftcap() != 0) {
            map.put(arch + ".attn_logit_softcapping", (float) c.attentionSoftcap());
        }
        if (c.finalSoftcap() != 0) {
            map.put(arch + ".final_logit_softcapping", (float) c.finalSoftcap());
        }
    }

    /** Whether a layer has the sliding window; the last layer of each group has not. */
    static boolean slides(int layer, int pattern) {
        return layer % pattern < pattern - 1;
    }

    /** How many layers a group has where the file does not say. */
    static int usualPattern(String modelType) {
        return modelType.equals("gemma2") ? 2 : 6;
    }

    private static void refuseWhatLlamaCppLacks(GgufArchitecture architecture, ModelConfig c) {
        boolean gemma = hasWindows(architecture);
        Set<GgufArchitecture> biasesOnQkv = Set.of(GgufArchitecture.LLAMA, GgufArchitecture.QWEN2);
        refuse(
                architecture,
                c.activation() != (gemma ? Activation.GELU_TANH : Activation.SILU),
                gemma ? "hidden_activation silu" : "hidden_act gelu_pytorch_tanh");
        refuse(architecture, c.qkvBias() && !biasesOnQkv.contains(architecture), "attention_bias");
        refuse(architecture, c.outputBias() && architecture != GgufArchitecture.LLAMA, "a bias on o_proj");
        refuse(architecture, c.mlpBias() && architecture != GgufArchitecture.LLAMA, "mlp_bias");
        refuse(architecture, gemma && !c.tieWordEmbeddings(), "an output layer of its own");
        refuse(
                architecture,
                architecture == GgufArchitecture.GEMMA2 && (c.attentionSoftcap() == 0 || c.finalSoftcap() == 0),
                "logits and scores without softcap");
        refuse(architecture, architecture == GgufArchitecture.GEMMA3 && c.finalSoftcap() != 0, "a softcap");
        boolean square = architecture == GgufArchitecture.PHI3 || architecture == GgufArchitecture.OLMO2;
        refuse(architecture, square && c.queryWidth() != c.hiddenSize(), "a head_dim of its own");
        ExpertsConfig experts = c.layers().getFirst().experts();
        refuse(
                architecture,
                c.layers().stream().anyMatch(l -> !Objects.equals(l.experts(), experts)),
                "dense layers among those with experts");
        boolean sparse = architecture == GgufArchitecture.QWEN3MOE;
        refuse(architecture, sparse && experts == null, "no experts");
        refuse(architecture, experts != null && !experts.normTopkProb(), "norm_topk_prob false");
    }

    private static void refuse(GgufArchitecture architecture, boolean missing, String what) {
        if (missing) {
            throw new UnsupportedModelException("llama.cpp's architecture " + architecture.ggufName()
                    + " does not have " + what + ", so this model cannot be written to GGUF");
        }
    }
}
