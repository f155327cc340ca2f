package org.qlora4j.samples.supply;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import java.util.zip.ZipFile;

/** A jar in Maven's local repository. */
record Artifact(String group, String artifact, String version) {
    private static final Pattern NATIVE = Pattern.compile(".*\\.(so|dll|dylib|jnilib|a)(\\.[0-9.]+)?");

    static Artifact of(JsonNode component) {
        return new Artifact(
                component.path("group").asText(),
                component.path("name").asText(),
                component.path("version").asText());
    }

    String name() {
        return group + ":" + artifact;
    }

    /** Its path in a repository. */
    String path() {
        return group.replace('.', '/') + "/" + artifact + "/" + version + "/" + artifact + "-" + version + ".jar";
    }

    /** The names of native libraries inside, without folder, "lib" and ending. */
    List<String> nativeFiles(Path repository) throws IOException {
        try (ZipFile jar = new ZipFile(repository.resolve(path()).toFile())) {
            return jar.stream()
                    .map(entry -> entry.getName().substring(entry.getName().lastIndexOf('/') + 1))
                    .filter(name -> NATIVE.matcher(name).matches())
                    .map(name -> name.substring(name.startsWith("lib") ? 3 : 0, name.indexOf('.')))
                    .distinct()
                    .sorted()
                    .toList();
        }
    }
}
