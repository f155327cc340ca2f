package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.tensor.Parameter;

/** PEFT's two files, adapter_config.json and adapter_model.safetensors, in and out; mlx-lm's in. */
public final class AdapterFiles {
    public static final String CONFIG = "adapter_config.json";
    public static final String WEIGHTS = "adapter_model.safetensors";

    private static final ObjectMapper JSON = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT);

    private AdapterFiles() {}

    /**
     * Reads adapter_config.json of a folder. @throws ModelFormatException if it asks for something that is not
     * supported
     */
    public static LoraConfig readConfig(Path folder) {
        Path file = folder.resolve(CONFIG);
        if (!Files.isRegularFile(file)) {
            throw new IllegalArgumentException(
                    folder + " holds no " + CONFIG + "; expected a PEFT adapter folder, e.g. output/…/checkpoint-100");
        }
        ObjectNode json = ModelSource.readObject(file);
        return MlxAdapter.isIn(folder) ? MlxAdapter.readConfig(folder, json) : AdapterConfigJson.read(file, json);
    }

    /** The base model named in adapter_config.json; empty if none is. */
    public static String baseModel(Path folder) {
        return ModelSource.readObject(folder.resolve(CONFIG))
                .path(MlxAdapter.isIn(folder) ? "model" : "base_model_name_or_path")
                .asText("");
    }

    /**
     * Attaches the adapter of a folder to a model, with the values of the file.
     *
     * @param config usually {@link #readConfig}'s; the caller may change dropout
     * @throws ModelFormatException if names or shapes do not fit the model
     */
    public static LoraAdapter load(Transformer model, LoraConfig config, Path folder) {
        LoraAdapter adapter = loadDetached(model, config, folder);
        try {
            adapter.attach();
            return adapter;
        } catch (RuntimeException | Error e) {
            adapter.close();
            throw e;
        }
    }

    /** As {@link #load}, without attaching: for several adapters of one model. */
    public static LoraAdapter loadDetached(Transformer model, LoraConfig config, Path folder) {
        requireRanks(model, config, folder);
        LoraAdapter adapter = config.initWeights().changesTheBase()
                // PEFT, too, computes anew what such an adapter took off the base
                ? LoraAdapter.attach(model, config, 0)
                : LoraAdapter.zeros(model, config);
        try {
            adapter.detach();
            readValues(adapter, folder);
            return adapter;
        } catch (RuntimeException | Error e) {
            adapter.close();
            throw e;
        }
    }

    /** A small file must not take the memory of a rank that its weights do not have. */
    private static void requireRanks(Transformer model, LoraConfig config, Path folder) {
        if (MlxAdapter.isIn(folder)) {
            return; // its ranks are those of its weights
        }
        Path weights = folder.resolve(WEIGHTS);
        try (Safetensors file = Safetensors.open(weights)) {
            long stored = 0;
            for (String name : file.names()) {
                // A of a pair is [rank, in]
                StoredTensor t = file.get(name);
                stored = name.contains(".lora_") && t.rank() == 2
                        ? Math.max(stored, Math.min(t.dim(0), t.dim(1)))
                        : stored;
            }
            LoraTargets targets = LoraTargets.of(model, config, false);
            int asked = Stream.concat(
                            targets.lora().stream().map(Linear::name),
                            Stream.of(model.embedding().name()).filter(name -> targets.loraEmbedding()))
                    .mapToInt(config::rank)
                    .max()
                    .orElse(0);
            if (asked > stored) {
                throw new ModelFormatException(
                        folder.resolve(CONFIG),
                        "asks for rank " + asked + ", the weights in " + WEIGHTS + " have rank " + stored + " at most");
            }
        }
    }

    /** Replaces an adapter's values by those of a folder. @throws ModelFormatException if names or shapes differ */
    public static void readValues(LoraAdapter adapter, Path folder) {
        if (MlxAdapter.isIn(folder)) {
            MlxAdapter.readValues(adapter, folder);
            return;
        }
        Path weights = folder.resolve(WEIGHTS);
        try (Safetensors file = Safetensors.open(weights)) {
            Map<String, FileTensor> tensors = FileTensor.of(adapter);
            TreeSet<String> extra = new TreeSet<>(file.names());
            extra.removeAll(tensors.keySet());
            // the frozen matrix below an adapted embedding or output layer, which PEFT writes too
            extra.removeIf(name -> name.endsWith(".base_layer.weight"));
            TreeSet<String> missing = new TreeSet<>();
            tensors.forEach((name, t) -> {
                if (!t.optional() && !file.names().contains(name)) {
                    missing.add(name);
                }
            });
            if (!extra.isEmpty() || !missing.isEmpty()) {
                throw new ModelFormatException(
                        weights,
                        "does not fit the model and " + CONFIG + ": missing " + few(missing) + ", not expected "
                                + few(extra));
            }
            for (FileTensor tensor : tensors.values()) {
                if (file.names().contains(tensor.spec().name())) {
                    read(adapter, file, tensor);
                }
            }
        }
    }

    private static void read(LoraAdapter adapter, Safetensors file, FileTensor tensor) {
        StoredTensor t = file.get(tensor.spec().name());
        Parameter p = adapter.byName().get(t.name());
        boolean alone = p != null
                && t.shape().equals(List.of((long) p.value().rows(), (long)
                        p.value().cols()));
        if (!t.shape().equals(tensor.spec().shape())
                && !(alone && adapter.config().initWeights().changesTheBase())) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + t.name() + "' has shape " + t.shape() + ", expected "
                            + tensor.spec().shape());
        }
        float[] values = new float[Math.toIntExact(t.elements())];
        file.readFloats(t, 0, values.length, values, 0);
        if (p != null && alone && !t.shape().equals(tensor.spec().shape())) {
            adapter.model().device().upload(p.value(), values, 0);
        } else {
            tensor.set().accept(values);
        }
    }

    private static String few(TreeSet<String> names) {
        return names.isEmpty()
                ? "none"
                : names.size() + " ("
                        + String.join(", ", names.stream().limit(3).toList()) + (names.size() > 3 ? ", …)" : ")");
    }

    /**
     * Writes both files into an existing folder, then reads the weights back and compares every value.
     *
     * @param baseModel goes to base_model_name_or_path
     */
    public static void save(LoraAdapter adapter, String baseModel, Path folder) {
        Map<String, FileTensor> tensors = new TreeMap<>(FileTensor.of(adapter));
        Path weights = folder.resolve(WEIGHTS);
        SafetensorsWriter.write(
                weights, tensors.values().stream().map(FileTensor::spec).toList(), (spec, sink) -> {
                    float[] values = values(tensors, spec.name());
                    sink.writeFloats(values, 0, values.length);
                });
        AtomicFile.writeString(folder.resolve(CONFIG), json(adapter, baseModel));
        try (Safetensors file = Safetensors.open(weights)) {
            for (String name : tensors.keySet()) {
                float[] expected = values(tensors, name);
                float[] found = new float[expected.length];
                file.readFloats(file.get(name), 0, found.length, found, 0);
                if (!Arrays.equals(expected, found)) {
                    throw new UncheckedIOException(new IOException(weights + ": tensor '" + name
                            + "' reads back other values than were written; the disk or its driver is faulty"));
                }
            }
        }
    }

    private static float[] values(Map<String, FileTensor> tensors, String name) {
        FileTensor t = tensors.get(name);
        if (t == null) {
            throw new AssertionError("no tensor " + name);
        }
        return t.get().get();
    }

    private static String json(LoraAdapter adapter, String baseModel) {
        try {
            return JSON.writeValueAsString(AdapterConfigJson.write(adapter, baseModel)) + "\n";
        } catch (JsonProcessingException e) {
            throw new AssertionError("a tree of strings and numbers", e);
        }
    }
}
