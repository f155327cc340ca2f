package org.qlora4j.samples.supply;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.MissingNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * What the build does at its end: adds the native packages to the bill of materials that CycloneDX's plugin made, and
 * compares what was built with and what is delivered with what is committed.
 */
final class SupplyChain {
    private static final ObjectMapper JSON = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT);

    private SupplyChain() {}

    /**
     * Started by the build with the project's folder, Maven's local repository, the plugin's bill of materials and the
     * file to write. Ends with status 1 and one line for each thing that differs.
     */
    public static void main(String[] arguments) throws IOException {
        Path root = Path.of(arguments[0]);
        Path repository = Path.of(arguments[1]);
        Path made = Path.of(arguments[2]);
        Path whole = Path.of(arguments[3]);
        // CycloneDX's plugin does nothing when Maven is offline: what an earlier build left says nothing about this one
        Files.deleteIfExists(whole);
        JsonNode bom = Files.exists(made) ? JSON.readTree(made.toFile()) : MissingNode.getInstance();
        Files.deleteIfExists(made);
        List<String> wrong = differences(root, repository, bom);
        if (!wrong.isEmpty()) {
            wrong.forEach(System.err::println);
            System.exit(1);
        }
        if (bom instanceof ObjectNode delivered) {
            NativeComponents.addTo(delivered);
            Files.writeString(whole, JSON.writeValueAsString(delivered) + "\n");
        } else {
            System.out.println(
                    "Maven is offline: hashes were compared, licences of Java libraries were not, and there is"
                            + " no bill of materials");
        }
    }

    /** One sentence for each thing that is not as committed. @param bom may be missing, with the libraries in it */
    static List<String> differences(Path root, Path repository, JsonNode bom) throws IOException {
        PinnedArtifacts pinned = PinnedArtifacts.read(root.resolve(".mvn/checksums/checksums.sha256"));
        Notice notice = Notice.read(root.resolve("NOTICE"));
        List<String> wrong = new ArrayList<>(pinned.changed(repository));
        for (Path pom : poms(root)) {
            wrong.addAll(pinned.missing(
                    root.relativize(pom), Files.readString(root.resolve("pom.xml")), Files.readString(pom)));
        }
        for (JsonNode component : bom.path("components")) {
            Artifact artifact = Artifact.of(component);
            if (!artifact.group().equals("org.qlora4j")) {
                pinned.check(artifact.path(), sha256(component)).ifPresent(wrong::add);
                notice.check(artifact.name(), license(component), artifact.nativeFiles(repository))
                        .ifPresent(wrong::add);
            }
        }
        NativeComponents.names()
                .forEach((name, its) ->
                        notice.check(name, its.license(), its.fileNames()).ifPresent(wrong::add));
        if (!bom.isMissingNode()) {
            wrong.addAll(notice.unused());
        }
        return wrong;
    }

    private static List<Path> poms(Path root) throws IOException {
        try (var files = Files.find(root, 2, (file, is) -> file.endsWith("pom.xml"))) {
            return files.sorted().toList();
        }
    }

    private static String sha256(JsonNode component) {
        for (JsonNode hash : component.path("hashes")) {
            if (hash.path("alg").textValue().equals("SHA-256")) {
                return hash.path("content").textValue();
            }
        }
        return "none";
    }

    /** Maven leaves the choice to the user where a POM names several. */
    private static String license(JsonNode component) {
        List<String> names = new ArrayList<>();
        for (JsonNode one : component.path("licenses")) {
            JsonNode license = one.path("license");
            names.add(
                    one.has("expression")
                            ? one.path("expression").textValue()
                            : license.path(license.has("id") ? "id" : "name").textValue());
        }
        return String.join(" OR ", names);
    }
}
