package org.qlora4j.samples.supply;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.MissingNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.bindings.NativePackage;

/** What the build's last check finds, on a project with one dependency; the real one is checked by the build itself. */
class SupplyChainTest {
    private static final String JAR = "a/b/demo/1.5/demo-1.5.jar";

    @TempDir
    Path folder;

    private Path root;
    private Path repository;
    private String sha256;

    @BeforeEach
    void makeProject() throws Exception {
        root = Files.createDirectories(folder.resolve("project"));
        repository = folder.resolve("repository");
        Path jar = repository.resolve(JAR);
        Files.createDirectories(jar.getParent());
        try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(jar))) {
            zip.putNextEntry(new ZipEntry("native/linux/libdemo.so.2"));
        }
        sha256 = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(Files.readAllBytes(jar)));
        Files.createDirectories(root.resolve(".mvn/checksums"));
        Files.writeString(root.resolve(".mvn/checksums/checksums.sha256"), sha256 + "  " + JAR + "\n");
        pom("1.5");
        notice("  a.b:demo  MIT  demo (zlib: Zlib)");
    }

    private void pom(String version) throws IOException {
        Files.writeString(root.resolve("pom.xml"), """
                <properties><demo.version>%s</demo.version></properties>
                <artifactId>qlora4j</artifactId> <version>1-SNAPSHOT</version>
                <dependency><artifactId>demo</artifactId> <version>${demo.version}</version></dependency>
                """.formatted(version));
    }

    /** The real entries of the native packages, and these. */
    private void notice(String... lines) throws IOException {
        String natives = Files.readString(Path.of(System.getProperty("qlora4j.root"), "NOTICE"))
                .replaceFirst("(?s).*Native packages", "Native packages");
        Files.writeString(root.resolve("NOTICE"), String.join("\n", lines) + "\n" + natives);
    }

    private ObjectNode bom() throws IOException {
        return (ObjectNode) new ObjectMapper().readTree("""
                {"components": [
                    {"group": "org.qlora4j", "name": "bindings", "version": "1"},
                    {"group": "a.b", "name": "demo", "version": "1.5", "licenses": [{"license": {"id": "MIT"}}],
                     "hashes": [{"alg": "MD5", "content": "0"}, {"alg": "SHA-256", "content": "%s"}]}],
                 "dependencies": [{"ref": "pkg:maven/org.qlora4j/bindings@1?type=jar", "dependsOn": []}]}
                """.formatted(sha256));
    }

    private void assertFinds(String... wanted) throws IOException {
        List<String> found = SupplyChain.differences(root, repository, bom());
        assertEquals(wanted.length, found.size(), found.toString());
        for (int i = 0; i < wanted.length; i++) {
            assertTrue(found.get(i).contains(wanted[i]), found.toString());
        }
    }

    @Test
    void findsNothingWhereEverythingIsAsCommitted() throws IOException {
        assertFinds();
    }

    @Test
    void findsAChangedJar() throws IOException {
        String pinned = "0".repeat(64) + "  " + JAR;
        Files.writeString(root.resolve(".mvn/checksums/checksums.sha256"), pinned + "\n");
        assertFinds(
                JAR + ": expected SHA-256 " + "0".repeat(64) + ", found " + sha256,
                JAR + ": expected SHA-256 " + "0".repeat(64) + ", found " + sha256);
    }

    @Test
    void findsWhatIsNotPinned() throws IOException {
        pom("1.6");
        assertFinds("pom.xml names version 1.6 of demo, of which no SHA-256 is committed");
        pom("1.5");
        Files.writeString(root.resolve(".mvn/checksums/checksums.sha256"), sha256 + "  c/demo/1.5/other.jar\n");
        assertFinds("no SHA-256 of " + JAR + " is committed, found " + sha256);
    }

    @Test
    void findsWhatNoticeLacks() throws IOException {
        notice();
        assertFinds("NOTICE has no line for a.b:demo, whose licence is 'MIT'");
        notice("  a.b:demo  Apache-2.0  demo");
        assertFinds("NOTICE says that the licence of a.b:demo is 'Apache-2.0', its own metadata say 'MIT'");
        notice("  a.b:demo  MIT");
        assertFinds("NOTICE's line for a.b:demo does not name the native libraries in it: demo");
        notice("  a.b:demo  MIT  demo", "  a.b:gone  MIT");
        assertFinds("NOTICE has a line for a.b:gone, which is not used");
        Files.writeString(root.resolve("NOTICE"), "  a.b:demo  MIT  demo\n");
        assertEquals(
                NativePackage.values().length,
                SupplyChain.differences(root, repository, bom()).size());
    }

    /** Offline there is no bill of materials: jars are compared all the same. */
    @Test
    void withoutABillOfMaterialsHashesAreCompared() throws IOException {
        assertEquals(List.of(), SupplyChain.differences(root, repository, MissingNode.getInstance()));
        String pinned = "0".repeat(64) + "  " + JAR;
        Files.writeString(root.resolve(".mvn/checksums/checksums.sha256"), pinned + "\n");
        assertEquals(
                1,
                SupplyChain.differences(root, repository, MissingNode.getInstance())
                        .size());
    }

    @Test
    void nativePackagesAreComponents() throws IOException {
        ObjectNode bom = bom();
        NativeComponents.addTo(bom);
        JsonNode components = bom.path("components");
        assertEquals(2 + NativePackage.values().length, components.size());
        for (NativePackage wanted : NativePackage.values()) {
            JsonNode found = components
                    .valueStream()
                    .filter(c -> c.path("purl").asText().equals(wanted.packageUrl()))
                    .findFirst()
                    .orElseThrow();
            assertEquals(wanted.sha256(), found.at("/hashes/0/content").asText());
            assertEquals(wanted.license(), found.at("/licenses/0/expression").asText());
            assertEquals(wanted.mainFile(), found.at("/components/0/name").asText());
            assertTrue(bom.at("/dependencies/0/dependsOn").toString().contains(wanted.packageUrl()));
        }
    }
}
