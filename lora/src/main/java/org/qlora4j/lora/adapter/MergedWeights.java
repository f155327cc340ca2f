package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.qlora4j.lora.model.DequantizedFiles;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.ModelConfig;
import org.qlora4j.lora.model.ModelFamily;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;

/**
 * The tensors of a base model with an adapter added, as an export writes them: {@code W + s·B·A} (with DoRA its rows at
 * their trained lengths) on the weights of the files, not on what they were quantized to for training, computed in
 * fp32. Tensors are read in pieces, so memory stays small whatever the model.
 */
public final class MergedWeights {
    private static final String HEAD = "lm_head.weight";
    private static final String EMBEDDING = "model.embed_tokens.weight";

    private final ModelSource source;
    private final TensorFiles tensors;
    private final Map<String, List<WeightChange>> changes;
    private final Map<String, List<Long>> shapes = new LinkedHashMap<>();

    private MergedWeights(ModelSource source, Map<String, List<WeightChange>> changes) {
        this.source = source;
        this.tensors = DequantizedFiles.of(source.tensors());
        this.changes = changes;
        tensors.names().forEach(name -> shapes.put(name, tensors.get(name).shape()));
    }

    /** The base alone; dequantized if it is quantized on disk. */
    public static MergedWeights of(ModelSource source) {
        return new MergedWeights(source, Map.of());
    }

    /**
     * Base and adapter.
     *
     * @param source the base the adapter is attached to, or {@link org.qlora4j.lora.model.LoadedBase} of it
     * @throws IllegalArgumentException if the base on disk is quantized itself, or the adapter changes a tensor that
     *     the base does not have
     */
    public static MergedWeights of(ModelSource source, LoraAdapter adapter) {
        if (DequantizedFiles.of(source.tensors()) instanceof DequantizedFiles) {
            throw new IllegalArgumentException(source.path() + " is quantized; merging needs the original model (name"
                    + " it with --model), or --merge_base dequantized");
        }
        MergedWeights merged = new MergedWeights(source, WeightChanges.of(adapter));
        if (merged.headIsNew()) {
            Linear output = adapter.model().outputLayer();
            merged.shapes.put(HEAD, List.of((long) output.out(), (long) output.in()));
        }
        for (String name : merged.changes.keySet()) {
            if (!merged.shapes.containsKey(name)) {
                throw new IllegalArgumentException("lora_bias of a layer without bias cannot be merged: " + name
                        + " does not exist in " + source.path());
            }
        }
        return merged;
    }

    /** Whether the output layer was changed and the base has none of its own: it shares the embedding. */
    private boolean headIsNew() {
        return changes.containsKey(HEAD) && tensors.find(HEAD).isEmpty();
    }

    /** Hugging Face's names of all tensors. */
    public Set<String> names() {
        return Collections.unmodifiableSet(shapes.keySet());
    }

    /** Row-major, outermost dimension first. */
    public List<Long> shape(String name) {
        List<Long> shape = shapes.get(name);
        if (shape == null) {
            throw new IllegalArgumentException("the model has no tensor '" + name + "'");
        }
        return shape;
    }

    /** The base's config.json, without dtype and quantization; its output layer is its own if that was changed. */
    public ObjectNode config() {
        ObjectNode config = source.configJson().deepCopy();
        config.remove(List.of("torch_dtype", "dtype", "quantization_config"));
        if (changes.containsKey(HEAD)) {
            // a tied one would be thrown away by the reader
            config.put("tie_word_embeddings", false);
        }
        return config;
    }

    /** What {@link #config()} says. */
    public ModelConfig modelConfig() {
        return ModelFamily.read(source.path(), config());
    }

    /**
     * Reads some rows: the innermost dimension is one row, all others count rows.
     *
     * @param dst their values, from index 0 on
     */
    public void readRows(String name, long firstRow, int rows, float[] dst) {
        List<Long> shape = shape(name);
        int cols = shape.isEmpty() ? 1 : Math.toIntExact(shape.getLast());
        // a shared output layer that was changed starts from the embedding
        boolean fromEmbedding = name.equals(HEAD) && tensors.find(HEAD).isEmpty();
        StoredTensor t = tensors.get(fromEmbedding ? EMBEDDING : name);
        tensors.readFloats(t, firstRow * cols, Math.multiplyExact(rows, cols), dst, 0);
        for (WeightChange change : changes.getOrDefault(name, List.of())) {
            change.apply(dst, Math.toIntExact(firstRow), rows, cols);
        }
    }
}
