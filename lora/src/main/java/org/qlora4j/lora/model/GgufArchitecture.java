package org.qlora4j.lora.model;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * llama.cpp's names for the model families, and for their tensors.
 *
 * @see <a href="https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/tensor_mapping.py">tensor_mapping.py</a>
 */
public enum GgufArchitecture {
    /** The rows of q and k lie so that rotary pairs are neighbours; llama.cpp knows no sliding window here. */
    LLAMA("llama", "LlamaForCausalLM", true, Names.PRE, List.of("llama", "mistral")),
    QWEN2("qwen2", "Qwen2ForCausalLM", false, Names.PRE, List.of("qwen2")),
    QWEN3("qwen3", "Qwen3ForCausalLM", false, Names.PRE, List.of("qwen3")),
    /** The experts of a layer are one tensor, [experts, out, in]. */
    QWEN3MOE("qwen3moe", "Qwen3MoeForCausalLM", false, Names.EXPERTS, List.of("qwen3_moe")),
    /** Norms are stored as 1 + w. */
    GEMMA2("gemma2", "Gemma2ForCausalLM", false, Names.SANDWICH, List.of("gemma2")),
    /** Norms are stored as 1 + w. */
    GEMMA3("gemma3", "Gemma3ForCausalLM", false, Names.SANDWICH, List.of("gemma3_text")),
    PHI3("phi3", "Phi3ForCausalLM", false, Names.FUSED, List.of("phi3")),
    /** Rows of q and k as in {@link #LLAMA}; every fourth layer is without rotary embedding. */
    SMOLLM3("smollm3", "SmolLM3ForCausalLM", true, Names.PRE, List.of("smollm3")),
    OLMO2("olmo2", "Olmo2ForCausalLM", false, Names.POST, List.of("olmo2"));

    private static final Pattern BLOCK = Pattern.compile("blk\\.(\\d{1,5})\\.([a-z_]+)\\.(weight|bias)");
    private static final Pattern LAYER = Pattern.compile("model\\.layers\\.(\\d{1,5})\\.([a-z_.]+)\\.(weight|bias)");
    private static final Pattern EXPERT =
            Pattern.compile("model\\.layers\\.(\\d{1,5})\\.mlp\\.experts\\.(\\d{1,6})\\.(gate|up|down)_proj\\.weight");
    private static final Pattern EXPERTS = Pattern.compile("blk\\.(\\d{1,5})\\.ffn_(gate|up|down)_exps\\.weight");

    /** Names of modules in a layer: llama.cpp's, then Hugging Face's. */
    private static final class Names {
        static final Map<String, String> WHOLE = Map.of(
                "token_embd.weight", "model.embed_tokens.weight",
                "output_norm.weight", "model.norm.weight",
                "output.weight", "lm_head.weight");
        private static final Map<String, String> COMMON = Map.ofEntries(
                Map.entry("attn_q", "self_attn.q_proj"),
                Map.entry("attn_k", "self_attn.k_proj"),
                Map.entry("attn_v", "self_attn.v_proj"),
                Map.entry("attn_q_norm", "self_attn.q_norm"),
                Map.entry("attn_k_norm", "self_attn.k_norm"),
                Map.entry("attn_output", "self_attn.o_proj"),
                Map.entry("ffn_gate", "mlp.gate_proj"),
                Map.entry("ffn_up", "mlp.up_proj"),
                Map.entry("ffn_down", "mlp.down_proj"));
        static final Map<String, String> PRE =
                with(COMMON, Map.of("attn_norm", "input_layernorm", "ffn_norm", "post_attention_layernorm"));
        static final Map<String, String> POST = with(
                COMMON,
                Map.of(
                        "post_attention_norm", "post_attention_layernorm",
                        "post_ffw_norm", "post_feedforward_layernorm"));
        static final Map<String, String> SANDWICH =
                with(POST, Map.of("attn_norm", "input_layernorm", "ffn_norm", "pre_feedforward_layernorm"));
        static final Map<String, String> FUSED =
                with(PRE, Map.of("attn_qkv", "self_attn.qkv_proj", "ffn_up", "mlp.gate_up_proj"));
        static final Map<String, String> EXPERTS = with(PRE, Map.of("ffn_gate_inp", "mlp.gate"));

        private static Map<String, String> with(Map<String, String> some, Map<String, String> more) {
            Map<String, String> all = new HashMap<>(some);
            all.putAll(more);
            return all;
        }
    }

    private final String ggufName;
    private final String className;
    private final boolean interleaved;
    private final Map<String, String> names;
    private final Map<String, String> namesBack;
    private final List<String> modelTypes;

    GgufArchitecture(
            String ggufName,
            String className,
            boolean interleaved,
            Map<String, String> names,
            List<String> modelTypes) {
        this.ggufName = ggufName;
        this.className = className;
        this.interleaved = interleaved;
        this.names = names;
        this.namesBack = inverse(names);
        this.modelTypes = modelTypes;
    }

    private static Map<String, String> inverse(Map<String, String> map) {
        Map<String, String> inverse = new HashMap<>();
        map.forEach((key, value) -> inverse.put(value, key));
        return inverse;
    }

    /** The value of {@code general.architecture}. */
    public String ggufName() {
        return ggufName;
    }

    /** The {@code model_type} of a file of this architecture. */
    String modelType() {
        return modelTypes.getFirst();
    }

    /** The entry of {@code architectures} of a file of this architecture. */
    String className() {
        return className;
    }

    static Optional<GgufArchitecture> ofGguf(@Nullable Object name) {
        return Arrays.stream(values()).filter(a -> a.ggufName.equals(name)).findFirst();
    }

    /** @throws UnsupportedModelException if llama.cpp has none for this {@code model_type}, or we do not know it */
    public static GgufArchitecture ofModelType(String modelType) {
        return Arrays.stream(values())
                .filter(a -> a.modelTypes.contains(modelType))
                .findFirst()
                .orElseThrow(() -> new UnsupportedModelException("model_type '" + modelType
                        + "' cannot be written to GGUF; can be: "
                        + Arrays.stream(values())
                                .flatMap(a -> a.modelTypes.stream())
                                .collect(Collectors.joining(", "))));
    }

    static String supported() {
        return Arrays.stream(values()).map(GgufArchitecture::ggufName).collect(Collectors.joining(", "));
    }

    /**
     * Hugging Face's names of a tensor in GGUF: one, or one for each of a layer's experts; none if it has no place.
     *
     * @param experts in a layer
     */
    List<String> huggingFaceNames(String gguf, int experts) {
        Matcher e = EXPERTS.matcher(gguf);
        if (this == QWEN3MOE && e.matches()) {
            return IntStream.range(0, experts)
                    .mapToObj(
                            i -> "model.layers." + e.group(1) + ".mlp.experts." + i + "." + e.group(2) + "_proj.weight")
                    .toList();
        }
        Matcher m = BLOCK.matcher(gguf);
        String name = Names.WHOLE.get(gguf);
        if (m.matches() && names.containsKey(m.group(2))) {
            name = "model.layers." + m.group(1) + "." + names.get(m.group(2)) + "." + m.group(3);
        }
        return name == null ? List.of() : List.of(name);
    }

    /** llama.cpp's name of a tensor of Hugging Face, the same for all experts of a layer; empty if it knows none. */
    public Optional<String> tensorName(String huggingFace) {
        Matcher e = EXPERT.matcher(huggingFace);
        if (this == QWEN3MOE && e.matches()) {
            return Optional.of("blk." + e.group(1) + ".ffn_" + e.group(3) + "_exps.weight");
        }
        Matcher m = LAYER.matcher(huggingFace);
        if (m.matches()) {
            return Optional.ofNullable(namesBack.get(m.group(2)))
                    .map(module -> "blk." + m.group(1) + "." + module + "." + m.group(3));
        }
        return Names.WHOLE.entrySet().stream()
                .filter(entry -> entry.getValue().equals(huggingFace))
                .map(Map.Entry::getKey)
                .findFirst();
    }

    /** Whether a tensor of Hugging Face is that of one expert. */
    public static boolean isExpert(String huggingFace) {
        return EXPERT.matcher(huggingFace).matches();
    }

    /** The number of the expert whose tensor this is. */
    public static int expert(String huggingFace) {
        Matcher e = EXPERT.matcher(huggingFace);
        if (!e.matches()) {
            throw new IllegalArgumentException(huggingFace + " is no tensor of an expert");
        }
        return Integer.parseInt(e.group(2));
    }

    /** Whether a file has an output layer, even if it is the embedding. */
    public boolean wantsOutputLayer() {
        return this == OLMO2;
    }

    /** Whether a tensor of GGUF holds one matrix for each expert of a layer. */
    public static boolean isOfExperts(String gguf) {
        return EXPERTS.matcher(gguf).matches();
    }

    /** Whether a tensor's rows lie in another order in GGUF: those of q and k where rotary pairs are neighbours. */
    public boolean isInterleaved(String huggingFace) {
        return interleaved
                && (huggingFace.contains(".self_attn.q_proj.") || huggingFace.contains(".self_attn.k_proj."));
    }

    /**
     * Where a row of an interleaved tensor lies in GGUF: row (half p, pair i) of a head becomes row 2i + p.
     *
     * @param row in Hugging Face's order
     */
    public static long interleavedRow(long row, int headDim) {
        long inHead = row % headDim;
        return row - inHead + inHead % (headDim / 2) * 2 + inHead / (headDim / 2);
    }
}
