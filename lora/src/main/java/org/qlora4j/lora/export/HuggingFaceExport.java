package org.qlora4j.lora.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.ShardedWriter;
import org.qlora4j.nf4.file.TensorSink;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;

/**
 * Writes a model as transformers' {@code save_pretrained} does: model.safetensors or shards of it, and config.json.
 * Every value is rounded once, to the dtype that is written.
 */
public final class HuggingFaceExport {
    /** transformers' max_shard_size. */
    private static final long SHARD_BYTES = 5_000_000_000L;

    private static final int CHUNK = 1 << 20;

    private HuggingFaceExport() {}

    /**
     * A plain model.
     *
     * @param dtype of the written weights
     * @param folder created if missing
     */
    public static void write(MergedWeights weights, DType dtype, Path folder) {
        List<TensorSpec> specs = new ArrayList<>();
        weights.names().forEach(name -> specs.add(new TensorSpec(name, dtype, weights.shape(name))));
        write(folder, specs, (spec, sink) -> writeFloats(weights, spec.name(), sink));
        writeConfig(weights.config(), dtype, folder);
    }

    /**
     * A model whose linear layers are quantized by bitsandbytes' rule to 4 bits, which transformers loads without
     * quantizing again. At any time one layer is held in memory.
     *
     * @param dtype of what is not quantized, and what weights are rounded to before they are quantized
     * @param folder created if missing
     */
    public static void writeBnb4bit(MergedWeights weights, DType dtype, BnbOptions options, Path folder) {
        Bnb4bitTensors quantized = new Bnb4bitTensors(weights, dtype, options);
        List<TensorSpec> specs = new ArrayList<>();
        for (String name : weights.names()) {
            if (quantized.contains(name)) {
                specs.addAll(quantized.specs(name));
            } else {
                specs.add(new TensorSpec(name, dtype, weights.shape(name)));
            }
        }
        write(folder, specs, (spec, sink) -> {
            if (!quantized.write(spec, sink)) {
                writeFloats(weights, spec.name(), sink);
            }
        });
        ObjectNode config = weights.config();
        config.set("quantization_config", options.toJson());
        writeConfig(config, dtype, folder);
    }

    private static void write(Path folder, List<TensorSpec> specs, SafetensorsWriter.Source source) {
        ShardedWriter.write(folder, SHARD_BYTES, SafetensorsWriter.PT_METADATA, specs, source);
    }

    private static void writeConfig(ObjectNode config, DType dtype, Path folder) {
        config.put("torch_dtype", dtype.torchName());
        AtomicFile.writeString(folder.resolve("config.json"), config.toPrettyString() + "\n");
    }

    private static void writeFloats(MergedWeights weights, String name, TensorSink sink) throws IOException {
        List<Long> shape = weights.shape(name);
        int cols = shape.isEmpty() ? 1 : Math.toIntExact(shape.getLast());
        long rows = shape.stream().limit(Math.max(0, shape.size() - 1)).reduce(1L, Math::multiplyExact);
        int step = Math.max(1, CHUNK / Math.max(1, cols));
        float[] piece = new float[Math.multiplyExact((int) Math.min(step, rows), cols)];
        for (long row = 0; row < rows; row += step) {
            int count = (int) Math.min(step, rows - row);
            weights.readRows(name, row, count, piece);
            sink.writeFloats(piece, 0, count * cols);
        }
    }
}
