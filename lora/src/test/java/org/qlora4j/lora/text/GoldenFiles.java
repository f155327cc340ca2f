package org.qlora4j.lora.text;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Finds data computed by the reference stack. */
final class GoldenFiles {
    private GoldenFiles() {}

    static Path path(String name) {
        String folder = System.getProperty("qlora4j.golden");
        if (folder != null) {
            return Path.of(folder, name);
        }
        for (Path at = Path.of("").toAbsolutePath(); at != null; at = at.getParent()) {
            if (Files.isDirectory(at.resolve("golden/tokenizer"))) {
                return at.resolve("golden").resolve(name);
            }
        }
        throw new IllegalStateException("no folder golden/ above the working directory; set -Dqlora4j.golden");
    }

    static JsonNode json(String name) {
        try {
            return new ObjectMapper().readTree(path(name).toFile());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
