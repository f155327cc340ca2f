package org.qlora4j.lora.model;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * llama.cpp's names for the model families, and for their tensors.
 *
 * @see <a href="https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/tensor_mapping.py">tensor_mapping.py</a>
 */
public enum GgufArchitecture {
    /** The rows of q and k lie so that rotary pairs are neighbours; llama.cpp knows no sliding window here. */
    LLAMA("llama", "LlamaForCausalLM", true, List.of("llama", "mistral")),
    QWEN3("qwen3", "Qwen3ForCausalLM", false, List.of("qwen3"));

    private static final Pattern BLOCK = Pattern.compile("blk\\.(\\d{1,5})\\.([a-z_]+)\\.(weight|bias)");
    private static final Pattern LAYER = Pattern.compile("model\\.layers\\.(\\d{1,5})\\.([a-z_.]+)\\.(weight|bias)");
    private static final Map<String, String> WHOLE = Map.of(
            "token_embd.weight", "model.embed_tokens.weight",
            "output_norm.weight", "model.norm.weight",
            "output.weight", "lm_head.weight");
    private static final Map<String, String> IN_BLOCK = Map.ofEntries(
            Map.entry("attn_norm", "input_layernorm"),
            Map.entry("attn_q", "self_attn.q_proj"),
            Map.entry("attn_k", "self_attn.k_proj"),
            Map.entry("attn_v", "self_attn.v_proj"),
            Map.entry("attn_q_norm", "self_attn.q_norm"),
            Map.entry("attn_k_norm", "self_attn.k_norm"),
            Map.entry("attn_output", "self_attn.o_proj"),
            Map.entry("ffn_norm", "post_attention_layernorm"),
            Map.entry("ffn_gate", "mlp.gate_proj"),
            Map.entry("ffn_up", "mlp.up_proj"),
            Map.entry("ffn_down", "mlp.down_proj"));
    private static final Map<String, String> WHOLE_BACK = inverse(WHOLE);
    private static final Map<String, String> IN_BLOCK_BACK = inverse(IN_BLOCK);

    private final String ggufName;
    private final String className;
    private final boolean interleaved;
    private final List<String> modelTypes;

    GgufArchitecture(String ggufName, String className, boolean interleaved, List<String> modelTypes) {
        this.ggufName = ggufName;
        this.className = className;
        this.interleaved = interleaved;
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

    /** Hugging Face's name of a tensor in GGUF. */
    Optional<String> huggingFaceName(String gguf) {
        Matcher m = BLOCK.matcher(gguf);
        if (m.matches()) {
            return Optional.ofNullable(IN_BLOCK.get(m.group(2)))
                    .map(module -> "model.layers." + m.group(1) + "." + module + "." + m.group(3));
        }
        return Optional.ofNullable(WHOLE.get(gguf));
    }

    /** llama.cpp's name of a tensor of Hugging Face; empty if it knows none. */
    public Optional<String> tensorName(String huggingFace) {
        Matcher m = LAYER.matcher(huggingFace);
        if (m.matches()) {
            return Optional.ofNullable(IN_BLOCK_BACK.get(m.group(2)))
                    .map(module -> "blk." + m.group(1) + "." + module + "." + m.group(3));
        }
        return Optional.ofNullable(WHOLE_BACK.get(huggingFace));
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
