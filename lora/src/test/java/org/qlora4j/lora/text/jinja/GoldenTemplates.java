package org.qlora4j.lora.text.jinja;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.Map;

/** Templates rendered by jinja2 as transformers configures it. */
final class GoldenTemplates {
    /** The clock of the reference run. */
    static final Clock CLOCK =
            Clock.fixed(LocalDateTime.of(2026, 3, 14, 9, 26, 53).toInstant(ZoneOffset.UTC), ZoneOffset.UTC);

    private static final ObjectMapper MAPPER = new ObjectMapper();

    private GoldenTemplates() {}

    static JsonNode json(String name) {
        try {
            return MAPPER.readTree(folder().resolve(name).toFile());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static Path folder() {
        String folder = System.getProperty("qlora4j.golden");
        if (folder != null) {
            return Path.of(folder, "templates");
        }
        for (Path at = Path.of("").toAbsolutePath(); at != null; at = at.getParent()) {
            if (Files.isDirectory(at.resolve("golden/templates"))) {
                return at.resolve("golden/templates");
            }
        }
        throw new IllegalStateException("no folder golden/templates above the working directory; set -Dqlora4j.golden");
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> context(JsonNode node) {
        return MAPPER.convertValue(node, Map.class);
    }

    static Rendered render(String template, Map<String, Object> context) {
        return Template.compile(template).render(context, Limits.DEFAULT, CLOCK);
    }
}
