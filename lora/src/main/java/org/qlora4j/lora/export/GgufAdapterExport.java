package org.qlora4j.lora.export;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Embedding;
import org.qlora4j.lora.model.GgufArchitecture;
import org.qlora4j.lora.model.GgufValues;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.ModelConfig;
import org.qlora4j.nf4.file.GgufTensor;
import org.qlora4j.nf4.file.GgufType;
import org.qlora4j.nf4.file.GgufWriter;
import org.qlora4j.nf4.file.TensorSink;

/**
 * Writes an adapter as GGUF, which llama.cpp applies to a base of its own ({@code --lora}). llama.cpp scales by
 * {@code adapter.lora.alpha / rank}; where a layer's scale is another one (rsLoRA, alpha_pattern), its B is multiplied.
 */
public final class GgufAdapterExport {
    private GgufAdapterExport() {}

    /** A low-rank matrix of the file. */
    private record Source(Linear linear, LoraWeights lora, boolean isB) {}

    /**
     * Writes an adapter.
     *
     * @param type F32, F16 or BF16
     * @param name {@code general.name}
     * @param file its folder must exist
     * @throws IllegalArgumentException if the adapter changes what llama.cpp's adapters cannot
     */
    public static void write(LoraAdapter adapter, GgufType type, String name, Path file) {
        if (type != GgufType.F32 && type != GgufType.F16 && type != GgufType.BF16) {
            throw new IllegalArgumentException(
                    "an adapter is written as f32, f16 or bf16, not " + type + ": its rows are too short for blocks");
        }
        ModelConfig config = adapter.model().config();
        GgufArchitecture architecture = GgufArchitecture.ofModelType(config.modelType());
        float alpha = (float) adapter.config().loraAlpha();
        Map<String, Source> sources = sources(adapter, architecture);
        List<GgufTensor> tensors = new ArrayList<>();
        sources.forEach((tensor, s) -> tensors.add(
                s.isB
                        ? GgufTensor.of(tensor, type, s.linear.out(), s.lora.rank())
                        : GgufTensor.of(tensor, type, s.lora.rank(), s.linear.in())));
        Map<String, Object> metadata = new LinkedHashMap<>();
        metadata.put("general.architecture", architecture.ggufName());
        metadata.put("general.type", "adapter");
        metadata.put("general.name", name);
        metadata.put("adapter.type", "lora");
        metadata.put("adapter.lora.alpha", alpha);
        GgufWriter.write(file, metadata, tensors, (tensor, sink) -> {
            Source source = sources.get(tensor.name());
            if (source != null) {
                write(adapter, architecture, source, alpha, sink);
            }
        });
    }

    private static Map<String, Source> sources(LoraAdapter adapter, GgufArchitecture architecture) {
        Embedding embedding = adapter.model().embedding();
        if (embedding.lora() != null || embedding.trained() != null || embedding.trainedRows() != null) {
            throw mergeInstead(embedding.name());
        }
        Map<String, Source> sources = new LinkedHashMap<>();
        for (Linear linear : adapter.model().linears()) {
            LoraWeights lora = linear.lora();
            boolean plain = linear.trained() == null
                    && linear.trainedBias() == null
                    && linear.trainedRows() == null
                    && linear.takenOff() == null;
            if (lora != null) {
                plain &= lora.magnitude() == null
                        && lora.bias() == null
                        && linear != adapter.model().outputLayer();
            }
            if (!plain) {
                throw mergeInstead(linear.name());
            }
            if (lora != null) {
                if (GgufArchitecture.isExpert(linear.name() + ".weight")) {
                    throw mergeInstead(linear.name());
                }
                String base = architecture
                        .tensorName(linear.name() + ".weight")
                        .orElseThrow(() -> new IllegalArgumentException(
                                "llama.cpp has no name for " + linear.name() + "; merge the adapter"));
                sources.put(base + ".lora_a", new Source(linear, lora, false));
                sources.put(base + ".lora_b", new Source(linear, lora, true));
            }
        }
        return sources;
    }

    /** llama.cpp adds low-rank products to the linear layers of its blocks, and does nothing else. */
    private static IllegalArgumentException mergeInstead(String module) {
        return new IllegalArgumentException("what this adapter changes in " + module
                + " cannot be written as a GGUF adapter, which holds plain LoRA on the linear layers of the blocks;"
                + " merge it: --merge_lora true --to_gguf true");
    }

    private static void write(
            LoraAdapter adapter, GgufArchitecture architecture, Source s, float alpha, TensorSink sink)
            throws IOException {
        float[] values = adapter.parameters().download(s.isB ? s.lora.b() : s.lora.a());
        if (s.isB) {
            int rank = s.lora.rank();
            GgufValues change = GgufValues.of(adapter.model().config(), s.linear.name() + ".weight");
            float factor = (float) (s.lora.scale() * rank / alpha) * change.factor();
            for (int i = 0; i < values.length; i++) {
                values[i] *= factor;
            }
            if (architecture.isInterleaved(s.linear.name() + ".weight")) {
                values = GgufExport.interleave(
                        values, s.linear.out(), rank, adapter.model().config().headDim());
            }
        }
        sink.writeFloats(values, 0, values.length);
    }
}
