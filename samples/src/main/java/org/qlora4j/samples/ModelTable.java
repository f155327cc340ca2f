package org.qlora4j.samples;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.qlora4j.lora.model.ModelConfig;
import org.qlora4j.lora.model.ModelFamily;

/** Configurations of well-known models, so that their memory can be estimated before they are fetched. */
final class ModelTable {
    private static final String RESOURCE = "models.json";

    private ModelTable() {}

    /**
     * The configuration of a name: {@code Qwen3-14B}, also with an organisation before it and {@code -Instruct} or
     * {@code -Base} behind it.
     */
    static Optional<ModelConfig> find(String name) {
        String wanted = simple(name);
        return read().propertyStream()
                .filter(e -> simple(e.getKey()).equals(wanted))
                .map(e -> ModelFamily.read(Path.of(e.getKey()), e.getValue()))
                .findFirst();
    }

    static List<String> names() {
        List<String> names = new ArrayList<>();
        read().fieldNames().forEachRemaining(names::add);
        return names;
    }

    private static String simple(String name) {
        return name.substring(name.lastIndexOf('/') + 1)
                .toLowerCase(Locale.ROOT)
                .replaceFirst("^meta-", "")
                .replaceFirst("-(instruct|base)(?=-|$)", "");
    }

    private static JsonNode read() {
        try (InputStream in = ModelTable.class.getResourceAsStream(RESOURCE)) {
            if (in == null) {
                throw new IllegalStateException(RESOURCE + " is missing from the program");
            }
            return new ObjectMapper().readTree(in);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + RESOURCE + ": " + e, e);
        }
    }
}
