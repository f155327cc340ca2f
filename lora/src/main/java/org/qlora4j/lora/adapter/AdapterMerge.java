package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Embedding;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.LowRank;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.TrainedRows;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.ShardedWriter;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorSink;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Writes base and adapter as one plain model: {@code W + s·B·A} (with DoRA, its rows at their trained lengths) on the
 * original weights of the base, not on its quantized ones, computed in fp32 and rounded once to the base's dtype. A
 * tensor is read, changed and written in pieces, so memory stays small whatever the model.
 */
public final class AdapterMerge {
    /** transformers' max_shard_size. */
    private static final long SHARD_BYTES = 5_000_000_000L;

    private static final int CHUNK = 1 << 20;

    private final LoraAdapter adapter;
    private final ModelSource source;
    private final Map<String, List<WeightChange>> changes = new LinkedHashMap<>();

    private AdapterMerge(LoraAdapter adapter, ModelSource source) {
        this.adapter = adapter;
        this.source = source;
    }

    /**
     * Writes model.safetensors (or shards) and config.json.
     *
     * @param source the base the adapter is attached to
     * @param dtype of the written weights
     * @param folder created if missing
     * @throws IllegalArgumentException if the base on disk is quantized itself
     */
    public static void write(LoraAdapter adapter, ModelSource source, DType dtype, Path folder) {
        AdapterMerge merge = new AdapterMerge(adapter, source);
        merge.collect();
        merge.write(dtype, folder);
    }

    private void write(DType dtype, Path folder) {
        List<TensorSpec> specs = new ArrayList<>();
        for (String name : source.tensors().names()) {
            StoredTensor t = source.tensors().get(name);
            if (!t.type().readsAsFloats() || name.contains(".quant_state.")) {
                throw new IllegalArgumentException(source.path() + " is quantized (tensor '" + name
                        + "'); merging needs the original model (name it with --model), or --merge_base dequantized");
            }
            specs.add(new TensorSpec(name, dtype, t.shape()));
        }
        Linear output = adapter.model().outputLayer();
        String outputWeight = output.name() + ".weight";
        boolean ownOutput = changes.containsKey(outputWeight);
        if (ownOutput && source.tensors().find(outputWeight).isEmpty()) {
            specs.add(TensorSpec.of(outputWeight, dtype, output.out(), output.in()));
        }
        for (String name : changes.keySet()) {
            if (specs.stream().noneMatch(s -> s.name().equals(name))) {
                throw new IllegalArgumentException("lora_bias of a layer without bias cannot be merged: " + name
                        + " does not exist in " + source.path());
            }
        }
        ShardedWriter.write(folder, SHARD_BYTES, SafetensorsWriter.PT_METADATA, specs, this::writeTensor);
        ObjectNode config = source.configJson().deepCopy();
        config.remove(List.of("torch_dtype", "dtype", "quantization_config"));
        config.put("torch_dtype", dtype.torchName());
        if (ownOutput) {
            // an output layer of its own: a tied one would be thrown away by the reader
            config.put("tie_word_embeddings", false);
        }
        AtomicFile.writeString(folder.resolve("config.json"), config.toPrettyString() + "\n");
    }

    private void collect() {
        Embedding embedding = adapter.model().embedding();
        Linear output = adapter.model().outputLayer();
        LoraWeights lookup = embedding.lora();
        String embeddingWeight = embedding.name() + ".weight";
        if (lookup != null) {
            // [V, rank]·[rank, C]: A's rows stand where B's stand in a linear layer
            change(
                    embeddingWeight,
                    product(transposed(lookup.b()), adapter.parameters().download(lookup.a()), lookup));
        }
        addTrained(embeddingWeight, embedding.trained(), embedding.trainedRows());
        boolean tiedModel = output.frozen() == embedding.frozen();
        if (tiedModel
                && changes.containsKey(embeddingWeight)
                && !adapter.parts().tied()) {
            // the output layer keeps the frozen embedding
            changes.put(output.name() + ".weight", new ArrayList<>());
        }
        for (Linear linear : adapter.model().linears()) {
            String weight = linear.name() + ".weight";
            LoraWeights lora = linear.lora();
            if (lora != null) {
                lowRank(linear, lora, weight);
            }
            boolean follows = linear == output && adapter.parts().tied();
            if (!follows) {
                addTrained(weight, linear.trained(), linear.trainedRows());
            }
        }
    }

    private void lowRank(Linear linear, LoraWeights lora, String weight) {
        TrainableParameters parameters = adapter.parameters();
        LowRank start = linear.takenOff();
        if (start != null) {
            change(
                    weight,
                    new WeightChange.LowRankProduct(
                            download(start.a()), download(start.b()), lora.rank(), (float) -start.scale()));
        }
        change(weight, product(parameters.download(lora.a()), parameters.download(lora.b()), lora));
        if (lora.magnitude() != null) {
            change(
                    weight,
                    new WeightChange.Lengths(
                            parameters.download(lora.magnitude().m())));
        }
        if (lora.bias() != null) {
            change(linear.name() + ".bias", new WeightChange.Sum(parameters.download(lora.bias()), (float)
                    lora.scale()));
        }
    }

    private static WeightChange product(float[] a, float[] b, LoraWeights lora) {
        return new WeightChange.LowRankProduct(a, b, lora.rank(), (float) lora.scale());
    }

    private void addTrained(String weight, @Nullable Parameter whole, @Nullable TrainedRows rows) {
        if (whole != null) {
            change(weight, new WeightChange.Whole(adapter.parameters().download(whole)));
        }
        if (rows != null) {
            change(
                    weight,
                    new WeightChange.Rows(rows.tokens(), adapter.parameters().download(rows.values())));
        }
    }

    private void change(String tensor, WeightChange change) {
        changes.computeIfAbsent(tensor, t -> new ArrayList<>()).add(change);
    }

    private float[] download(Tensor t) {
        float[] values = new float[Math.toIntExact(t.numel())];
        adapter.model().device().download(t, values, 0);
        return values;
    }

    private float[] transposed(Parameter p) {
        return FileTensor.transposed(
                adapter.parameters().download(p), p.value().rows(), p.value().cols());
    }

    private void writeTensor(TensorSpec spec, TensorSink sink) throws IOException {
        List<WeightChange> own = changes.getOrDefault(spec.name(), List.of());
        // an output layer that was tied starts from the embedding
        String stored = source.tensors().find(spec.name()).isPresent()
                ? spec.name()
                : adapter.model().embedding().name() + ".weight";
        StoredTensor t = source.tensors().get(stored);
        int cols = t.rank() == 2 ? Math.toIntExact(t.dim(1)) : Math.toIntExact(t.elements());
        long rows = t.elements() / cols;
        int step = Math.max(1, CHUNK / cols);
        float[] piece = new float[Math.multiplyExact((int) Math.min(step, rows), cols)];
        for (long r = 0; r < rows; r += step) {
            int n = (int) Math.min(step, rows - r);
            source.tensors().readFloats(t, r * cols, n * cols, piece, 0);
            for (WeightChange change : own) {
                change.apply(piece, (int) r, n, cols);
            }
            sink.writeFloats(piece, 0, n * cols);
        }
    }
}
