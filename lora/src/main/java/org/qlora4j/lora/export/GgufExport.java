package org.qlora4j.lora.export;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.lora.model.GgufArchitecture;
import org.qlora4j.lora.model.GgufConfig;
import org.qlora4j.lora.model.GgufRope;
import org.qlora4j.lora.model.GgufValues;
import org.qlora4j.lora.model.ModelConfig;
import org.qlora4j.lora.model.UnsupportedModelException;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.nf4.file.GgufTensor;
import org.qlora4j.nf4.file.GgufType;
import org.qlora4j.nf4.file.GgufWriter;
import org.qlora4j.nf4.file.TensorSink;

/**
 * Writes a model with its tokenizer and chat template as one GGUF file for llama.cpp. Vectors stay F32; with Q4_0 the
 * embedding and the output layer get Q8_0; rows that are no whole blocks get F16.
 */
public final class GgufExport {
    private static final int CHUNK = 1 << 20;
    private static final int QUANTIZATION_VERSION = 2;
    private static final String HEAD = "lm_head.weight";
    private static final String EMBEDDING = "model.embed_tokens.weight";

    private final MergedWeights weights;
    private final ModelConfig config;
    private final GgufArchitecture architecture;
    private final GgufType type;
    /** What each tensor of the file is made of: one tensor, or one for each expert. */
    private final Map<String, List<String>> sources = new LinkedHashMap<>();

    private final Map<String, float[]> factors;

    private GgufExport(MergedWeights weights, GgufType type) {
        this.weights = weights;
        this.config = weights.modelConfig();
        this.architecture = GgufArchitecture.ofModelType(config.modelType());
        this.type = type;
        this.factors = GgufRope.factors(config);
    }

    /**
     * Writes a model.
     *
     * @param text goes into the file
     * @param type of the matrices: F32, F16, BF16, Q8_0 or Q4_0
     * @param name {@code general.name}
     * @param file its folder must exist
     * @throws UnsupportedModelException if llama.cpp has no such model
     */
    public static void write(MergedWeights weights, ChatText text, GgufType type, String name, Path file) {
        Map<String, Object> metadata = GgufConfig.metadata(weights.modelConfig());
        GgufExport export = new GgufExport(weights, type);
        metadata.put("general.type", "model");
        metadata.put("general.name", name);
        metadata.put("general.file_type", fileType(type));
        metadata.put("general.quantization_version", QUANTIZATION_VERSION);
        metadata.putAll(text.ggufMetadata(export.config.vocabSize()));
        GgufWriter.write(file, metadata, export.tensors(), export::write);
    }

    /** llama.cpp's LLAMA_FTYPE. */
    private static int fileType(GgufType type) {
        return switch (type) {
            case F32 -> 0;
            case F16 -> 1;
            case Q4_0 -> 2;
            case Q8_0 -> 7;
            case BF16 -> 32;
            default ->
                throw new IllegalArgumentException(
                        "outtype " + type + " is not supported; supported: f32, f16, bf16, q8_0, q4_0");
        };
    }

    private List<GgufTensor> tensors() {
        List<GgufTensor> tensors = new ArrayList<>();
        factors.forEach((name, values) -> tensors.add(GgufTensor.of(name, GgufType.F32, values.length)));
        for (String name : weights.names()) {
            if (!name.equals(HEAD) || !config.tieWordEmbeddings()) {
                String gguf = architecture
                        .tensorName(name)
                        .orElseThrow(() -> new UnsupportedModelException("tensor '" + name
                                + "' has no name in llama.cpp's " + architecture.ggufName() + " architecture"));
                sources.computeIfAbsent(gguf, g -> new ArrayList<>()).add(name);
            }
        }
        if (config.tieWordEmbeddings() && architecture.wantsOutputLayer()) {
            sources.put("output.weight", List.of(EMBEDDING));
        }
        sources.forEach((gguf, names) -> tensors.add(new GgufTensor(gguf, type(names.getFirst()), shape(gguf, names))));
        return tensors;
    }

    private List<Long> shape(String gguf, List<String> names) {
        List<Long> shape = new ArrayList<>(weights.shape(names.getFirst()));
        if (GgufArchitecture.isOfExperts(gguf)) {
            // by number, whatever the order in the files
            names.sort(Comparator.comparingInt(GgufArchitecture::expert));
            shape.addFirst((long) names.size());
        }
        return shape;
    }

    private GgufType type(String name) {
        List<Long> shape = weights.shape(name);
        if (shape.size() == 1 || name.endsWith(".mlp.gate.weight")) {
            return GgufType.F32; // routers too, as llama.cpp's converter does
        }
        boolean outer = name.equals(HEAD) || name.equals(EMBEDDING);
        GgufType wanted = type == GgufType.Q4_0 && outer ? GgufType.Q8_0 : type;
        return shape.getLast() % wanted.blockSize() == 0 ? wanted : GgufType.F16;
    }

    private void write(GgufTensor tensor, TensorSink sink) throws IOException {
        float[] values = factors.get(tensor.name());
        if (values != null) {
            sink.writeFloats(values, 0, values.length);
            return;
        }
        for (String name : sources.getOrDefault(tensor.name(), List.of())) {
            write(name, sink);
        }
    }

    private void write(String name, TensorSink sink) throws IOException {
        List<Long> shape = weights.shape(name);
        boolean vector = shape.size() == 1;
        int cols = vector ? 1 : Math.toIntExact(shape.getLast());
        int rows = Math.toIntExact(shape.getFirst());
        boolean interleaved = architecture.isInterleaved(name);
        GgufValues change = GgufValues.of(config, name);
        int headDim = config.headDim();
        // whole heads, so that their rows can change places
        int step = vector ? rows : Math.max(headDim, CHUNK / cols / headDim * headDim);
        float[] piece = new float[Math.multiplyExact(Math.min(step, rows), cols)];
        for (int row = 0; row < rows; row += step) {
            int count = Math.min(step, rows - row);
            if (vector) {
                weights.readRows(name, 0, 1, piece);
            } else {
                weights.readRows(name, row, count, piece);
            }
            change.toGguf(piece, count * cols);
            float[] ordered = interleaved ? interleave(piece, count, cols, headDim) : piece;
            sink.writeFloats(ordered, 0, count * cols);
        }
    }

    /** Rows of whole heads in llama.cpp's order. */
    static float[] interleave(float[] values, int rows, int cols, int headDim) {
        float[] ordered = new float[rows * cols];
        for (int row = 0; row < rows; row++) {
            int to = (int) GgufArchitecture.interleavedRow(row, headDim);
            System.arraycopy(values, row * cols, ordered, to * cols, cols);
        }
        return ordered;
    }
}
