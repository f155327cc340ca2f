package org.qlora4j.samples.supply;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The committed SHA-256 of every jar a build reads, by its path in a Maven repository: dependencies, plugins, and what
 * both depend on. Written by {@code .mvn/checksums/record.sh}.
 */
record PinnedArtifacts(Map<String, String> sha256) {
    private static final String DO = "; if that is meant, run .mvn/checksums/record.sh and look at what changes";
    private static final Pattern PROPERTY = Pattern.compile("<([a-z0-9.-]+\\.version)>([^<$]+)</\\1>");
    private static final Pattern VERSION =
            Pattern.compile("(?:<artifactId>([^<]+)</artifactId>\\s*)?<version>([^<]+)</version>");

    static PinnedArtifacts read(Path file) throws IOException {
        Map<String, String> hashes = new TreeMap<>();
        for (String line : Files.readAllLines(file)) {
            hashes.put(line.substring(66), line.substring(0, 64));
        }
        return new PinnedArtifacts(hashes);
    }

    /** The jars of a local repository that are others than the pinned ones. */
    List<String> changed(Path repository) throws IOException {
        List<String> wrong = new ArrayList<>();
        for (String path : sha256.keySet()) {
            Path file = repository.resolve(path);
            if (Files.isRegularFile(file)) {
                check(path, hash(file)).ifPresent(wrong::add);
            }
        }
        return wrong;
    }

    /** What is wrong with a jar that has this hash, if anything. */
    Optional<String> check(String path, String found) {
        String expected = sha256.get(path);
        if (expected == null) {
            return Optional.of("no SHA-256 of " + path + " is committed, found " + found + DO);
        }
        return expected.equals(found)
                ? Optional.empty()
                : Optional.of(
                        path + ": expected SHA-256 " + expected + ", found " + found
                                + "; it is damaged or another file under the same version: remove it from the local repository");
    }

    /** The versions a POM names of which no jar is pinned. */
    List<String> missing(Path name, String parent, String pom) {
        Map<String, String> properties = new TreeMap<>();
        PROPERTY.matcher(parent).results().forEach(p -> properties.put("${" + p.group(1) + "}", p.group(2)));
        List<String> wrong = new ArrayList<>();
        Matcher found = VERSION.matcher(pom);
        while (found.find()) {
            String version = properties.getOrDefault(found.group(2), found.group(2));
            String artifact = found.group(1);
            String path = artifact == null ? "/" + version + "/" : "/" + artifact + "/" + version + "/";
            boolean ours = version.equals("${project.version}") || version.endsWith("-SNAPSHOT");
            if (!ours && sha256.keySet().stream().noneMatch(p -> p.contains(path))) {
                wrong.add(name + " names version " + version + (artifact == null ? "" : " of " + artifact)
                        + ", of which no SHA-256 is committed" + DO);
            }
        }
        return wrong;
    }

    private static String hash(Path file) throws IOException {
        try (InputStream in = Files.newInputStream(file)) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            new DigestInputStream(in, digest).transferTo(OutputStream.nullOutputStream());
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
    }
}
