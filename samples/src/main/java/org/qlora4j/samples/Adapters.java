package org.qlora4j.samples;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.AdapterCombination;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Transformer;

/** The adapters of {@code --adapters}, each {@code folder} or {@code name=folder}, of which one at most is in use. */
final class Adapters implements AutoCloseable {
    /** The base model alone. */
    static final String NONE = "base";

    /** What {@code adapter_weights} make of all. */
    static final String COMBINED = "combined";

    private final Map<String, LoraAdapter> byName = new LinkedHashMap<>();
    private @Nullable LoraAdapter inUse;

    private Adapters() {}

    /** Of a model alone. */
    static Adapters none() {
        return new Adapters();
    }

    /** The folders, by name. */
    static Map<String, Path> folders(Arguments a) {
        Map<String, Path> folders = new LinkedHashMap<>();
        for (String word : a.has("adapters") ? a.list("adapters") : List.<String>of()) {
            int equals = word.indexOf('=');
            Path folder = Path.of(word.substring(equals + 1));
            String name = equals > 0
                    ? word.substring(0, equals)
                    : String.valueOf(folder.toAbsolutePath().getFileName());
            if (equals <= 0 && folders.containsKey(name)) {
                name = word;
            }
            if (name.equals(NONE) || name.equals(COMBINED) || folders.put(name, folder) != null) {
                throw new UserException("two adapters are called '" + name + "'; name them: --adapters a=DIR b=DIR");
            }
        }
        return folders;
    }

    /** Loads all; the first one is in use, or their combination if there are weights. */
    static Adapters load(Arguments a, Transformer model, double dropout) {
        Adapters adapters = new Adapters();
        try {
            folders(a)
                    .forEach((name, folder) -> adapters.byName.put(
                            name,
                            AdapterFiles.loadDetached(
                                    model, AdapterFiles.readConfig(folder).withDropout(dropout), folder)));
            if (a.has("adapter_weights")) {
                adapters.combine(a);
            } else if (!adapters.byName.isEmpty()) {
                adapters.use(adapters.byName.keySet().iterator().next());
            }
            return adapters;
        } catch (RuntimeException | Error e) {
            adapters.close();
            throw e;
        }
    }

    private void combine(Arguments a) {
        List<Double> weights = new ArrayList<>();
        for (String word : a.list("adapter_weights")) {
            try {
                weights.add(Double.parseDouble(word));
            } catch (NumberFormatException e) {
                throw new UserException("--adapter_weights must be numbers, got '" + word + "'");
            }
        }
        byName.put(
                COMBINED,
                AdapterCombination.of(
                        List.copyOf(byName.values()), weights, AdapterCombination.Type.of(a.text("combination_type"))));
        use(COMBINED);
    }

    /** Names of all, in the order they were given. */
    List<String> names() {
        return List.copyOf(byName.keySet());
    }

    /** The one in use; null for the base model alone. */
    @Nullable
    LoraAdapter inUse() {
        return inUse;
    }

    /** Puts another adapter into the model, or none for {@link #NONE}. @throws UserException for an unknown name */
    void use(String name) {
        LoraAdapter wanted = byName.get(name);
        if (wanted == null && !name.equals(NONE)) {
            throw new UserException(
                    "there is no adapter '" + name + "'; there are: " + String.join(", ", names()) + ", " + NONE);
        }
        if (inUse != null) {
            inUse.detach();
        }
        if (wanted != null) {
            wanted.attach();
        }
        inUse = wanted;
    }

    @Override
    public void close() {
        byName.values().forEach(LoraAdapter::close);
    }
}
