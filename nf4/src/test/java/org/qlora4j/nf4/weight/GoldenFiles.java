package org.qlora4j.nf4.weight;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.StoredTensor;

/**
 * Reference values of the Hugging Face stack; {@code -Dqlora4j.golden} or the folder {@code golden} at the repository's
 * root.
 */
final class GoldenFiles {
    private GoldenFiles() {}

    static Path path(String name) {
        String given = System.getProperty("qlora4j.golden");
        if (given != null) {
            return Path.of(given).resolve(name);
        }
        for (Path dir = Path.of("").toAbsolutePath(); dir != null; dir = dir.getParent()) {
            if (Files.isDirectory(dir.resolve("golden"))) {
                return dir.resolve("golden").resolve(name);
            }
        }
        throw new IllegalStateException("no folder 'golden' above "
                + Path.of("").toAbsolutePath() + "; set -Dqlora4j.golden to the folder that holds " + name);
    }

    static JsonNode json(String name) {
        try {
            return new ObjectMapper().readTree(path(name).toFile());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The entries of {@code cases}, which must be {@code expected} many, so that no case gets lost. */
    static List<JsonNode> cases(String name, int expected) {
        List<JsonNode> cases = new ArrayList<>();
        json(name).path("cases").forEach(cases::add);
        if (cases.size() != expected) {
            throw new IllegalStateException(name + " has " + cases.size() + " cases, expected " + expected);
        }
        return cases;
    }

    static float[] floats(Safetensors file, String tensor) {
        StoredTensor t = file.get(tensor);
        float[] values = new float[(int) t.elements()];
        file.readFloats(t, 0, values.length, values, 0);
        return values;
    }

    static byte[] bytes(Safetensors file, String tensor) {
        return file.readBytes(file.get(tensor));
    }
}
