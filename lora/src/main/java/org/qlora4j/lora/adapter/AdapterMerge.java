package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.ShardedWriter;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorSink;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;

/**
 * Writes base and adapter as one plain model: {@code W + s·B·A} (with DoRA its rows at their trained lengths) on the
 * original weights of the base, not on its quantized ones, computed in fp32 and rounded once to the base's dtype. A
 * tensor is read, changed and written in pieces, so memory stays small whatever the model.
 */
public final class AdapterMerge {
    /** transformers' max_shard_size. */
    private static final long SHARD_BYTES = 5_000_000_000L;

    private static final int CHUNK = 1 << 20;

    private AdapterMerge() {}

    /** The parts of one layer's adapter on the host. */
    private record Change(
            float[] a, float[] b, int rank, float scale, float @Nullable [] magnitude, float @Nullable [] whole) {}

    /**
     * Writes model.safetensors (or shards) and config.json.
     *
     * @param source the base the adapter is attached to
     * @param dtype of the written weights
     * @param folder created if missing
     * @throws IllegalArgumentException if the base on disk is quantized itself
     */
    public static void write(LoraAdapter adapter, ModelSource source, DType dtype, Path folder) {
        Map<String, Change> changes = changes(adapter);
        List<TensorSpec> specs = new ArrayList<>();
        for (String name : source.tensors().names()) {
            StoredTensor t = source.tensors().get(name);
            if (!t.type().readsAsFloats() || name.contains(".quant_state.")) {
                throw new IllegalArgumentException(source.path() + " is quantized (tensor '" + name
                        + "'); merging needs the original model: name it with --model");
            }
            specs.add(new TensorSpec(name, dtype, t.shape()));
        }
        Change head = changes.get("lm_head.weight");
        if (head != null && source.tensors().find("lm_head.weight").isEmpty()) {
            Linear output = adapter.model().outputLayer();
            specs.add(TensorSpec.of("lm_head.weight", dtype, output.out(), output.in()));
        }
        ShardedWriter.write(
                folder,
                SHARD_BYTES,
                SafetensorsWriter.PT_METADATA,
                specs,
                (spec, sink) -> write(source, spec, changes.get(spec.name()), sink));
        ObjectNode config = source.configJson().deepCopy();
        config.remove(List.of("torch_dtype", "dtype", "quantization_config"));
        config.put("torch_dtype", dtype.torchName());
        if (head != null) {
            // an output layer of its own: a tied one would be thrown away by the reader
            config.put("tie_word_embeddings", false);
        }
        AtomicFile.writeString(folder.resolve("config.json"), config.toPrettyString() + "\n");
    }

    private static Map<String, Change> changes(LoraAdapter adapter) {
        TrainableParameters parameters = adapter.parameters();
        Map<String, Change> changes = new LinkedHashMap<>();
        for (Linear linear : adapter.model().linears()) {
            LoraWeights lora = linear.lora();
            Parameter trained = linear.trained();
            if (lora != null) {
                changes.put(
                        linear.name() + ".weight",
                        new Change(
                                parameters.download(lora.a()),
                                parameters.download(lora.b()),
                                lora.rank(),
                                (float) lora.scale(),
                                lora.magnitude() == null
                                        ? null
                                        : parameters.download(lora.magnitude().m()),
                                null));
            } else if (trained != null) {
                changes.put(
                        linear.name() + ".weight",
                        new Change(new float[0], new float[0], 0, 0, null, parameters.download(trained)));
            }
        }
        return changes;
    }

    private static void write(ModelSource source, TensorSpec spec, @Nullable Change change, TensorSink sink)
            throws IOException {
        float[] whole = change == null ? null : change.whole;
        if (whole != null) {
            sink.writeFloats(whole, 0, whole.length);
            return;
        }
        StoredTensor t = source.tensors().get(spec.name());
        int cols = t.rank() == 2 ? Math.toIntExact(t.dim(1)) : Math.toIntExact(t.elements());
        long rows = t.elements() / cols;
        int step = Math.max(1, CHUNK / cols);
        float[] piece = new float[Math.multiplyExact((int) Math.min(step, rows), cols)];
        for (long r = 0; r < rows; r += step) {
            int n = (int) Math.min(step, rows - r);
            source.tensors().readFloats(t, r * cols, n * cols, piece, 0);
            if (change != null) {
                add(piece, (int) r, n, cols, change);
            }
            sink.writeFloats(piece, 0, n * cols);
        }
    }

    private static void add(float[] w, int firstRow, int rows, int cols, Change c) {
        for (int r = 0; r < rows; r++) {
            for (int k = 0; k < c.rank; k++) {
                float factor = c.scale * c.b[(firstRow + r) * c.rank + k];
                int at = r * cols;
                int a = k * cols;
                for (int i = 0; i < cols; i++) {
                    w[at + i] += factor * c.a[a + i];
                }
            }
            if (c.magnitude != null) {
                setLength(w, r * cols, cols, c.magnitude[firstRow + r]);
            }
        }
    }

    /** A row of zeros stays one. */
    private static void setLength(float[] w, int from, int n, float length) {
        double squares = 0;
        for (int i = from; i < from + n; i++) {
            squares += (double) w[i] * w[i];
        }
        float factor = squares == 0 ? 0 : (float) (length / Math.sqrt(squares));
        for (int i = from; i < from + n; i++) {
            w[i] *= factor;
        }
    }
}
