package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;

/** PEFT's two files, adapter_config.json and adapter_model.safetensors, in and out. */
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
        return AdapterConfigJson.read(file, ModelSource.readObject(file));
    }

    /** The base model named in adapter_config.json; empty if none is. */
    public static String baseModel(Path folder) {
        return ModelSource.readObject(folder.resolve(CONFIG))
                .path("base_model_name_or_path")
                .asText("");
    }

    /**
     * Attaches the adapter of a folder to a model, with the values of the file.
     *
     * @param config usually {@link #readConfig}'s; the caller may change dropout
     * @throws ModelFormatException if names or shapes do not fit the model
     */
    public static LoraAdapter load(Transformer model, LoraConfig config, Path folder) {
        LoraAdapter adapter = LoraAdapter.attachZeros(model, config);
        try {
            readValues(adapter, folder);
            return adapter;
        } catch (RuntimeException e) {
            adapter.close();
            throw e;
        }
    }

    /** Replaces an adapter's values by those of a folder. @throws ModelFormatException if names or shapes differ */
    public static void readValues(LoraAdapter adapter, Path folder) {
        Path weights = folder.resolve(WEIGHTS);
        try (Safetensors file = Safetensors.open(weights)) {
            Map<String, Parameter> parameters = adapter.byName();
            if (!parameters.keySet().equals(file.names())) {
                TreeSet<String> missing = new TreeSet<>(parameters.keySet());
                missing.removeAll(file.names());
                TreeSet<String> extra = new TreeSet<>(file.names());
                extra.removeAll(parameters.keySet());
                throw new ModelFormatException(
                        weights,
                        "does not fit the model and " + CONFIG + ": missing " + few(missing) + ", not expected "
                                + few(extra));
            }
            for (Parameter p : parameters.values()) {
                StoredTensor t = file.get(p.name());
                if (!t.shape().equals(spec(p).shape())) {
                    throw new ModelFormatException(
                            weights,
                            "tensor '" + p.name() + "' has shape " + t.shape() + ", expected " + spec(p).shape());
                }
                float[] values = new float[(int) t.elements()];
                file.readFloats(t, 0, values.length, values, 0);
                adapter.model().device().upload(p.value(), values, 0);
            }
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
        TrainableParameters trained = adapter.parameters();
        Map<String, Parameter> parameters = new TreeMap<>(adapter.byName());
        List<TensorSpec> specs = new ArrayList<>();
        parameters.values().forEach(p -> specs.add(spec(p)));
        Path weights = folder.resolve(WEIGHTS);
        SafetensorsWriter.write(weights, specs, (spec, sink) -> {
            float[] values = trained.download(parameter(parameters, spec.name()));
            sink.writeFloats(values, 0, values.length);
        });
        AtomicFile.writeString(folder.resolve(CONFIG), json(adapter, baseModel));
        try (Safetensors file = Safetensors.open(weights)) {
            for (Parameter p : parameters.values()) {
                float[] expected = trained.download(p);
                float[] found = new float[expected.length];
                file.readFloats(file.get(p.name()), 0, found.length, found, 0);
                if (!Arrays.equals(expected, found)) {
                    throw new UncheckedIOException(new IOException(weights + ": tensor '" + p.name()
                            + "' reads back other values than were written; the disk or its driver is faulty"));
                }
            }
        }
    }

    /** A matrix; DoRA's magnitudes are a vector. */
    private static TensorSpec spec(Parameter p) {
        int rows = p.value().rows();
        int cols = p.value().cols();
        return p.name().endsWith(LoraAdapter.MAGNITUDE)
                ? TensorSpec.of(p.name(), DType.F32, cols)
                : TensorSpec.of(p.name(), DType.F32, rows, cols);
    }

    private static Parameter parameter(Map<String, Parameter> parameters, String name) {
        Parameter p = parameters.get(name);
        if (p == null) {
            throw new AssertionError("no parameter " + name);
        }
        return p;
    }

    private static String json(LoraAdapter adapter, String baseModel) {
        try {
            return JSON.writeValueAsString(AdapterConfigJson.write(adapter, baseModel)) + "\n";
        } catch (JsonProcessingException e) {
            throw new AssertionError("a tree of strings and numbers", e);
        }
    }
}
