package org.qlora4j.bindings;

import java.util.List;

/**
 * A package to fetch, pinned.
 *
 * @param client the package client that fetches it
 * @param coordinates name and version as the client wants them
 * @param fileName the file that is fetched
 * @param bytes its size
 * @param sha256 its SHA-256, in hex
 * @param folderName the folder in the cache where the unpacked files lie, all in one level
 * @param license its licence, an SPDX expression
 * @param members paths inside the file that are unpacked; {@code *} stands for any characters but a slash. The first
 *     one is plain
 */
record PackageSpec(
        Client client,
        String coordinates,
        String fileName,
        long bytes,
        String sha256,
        String folderName,
        String license,
        List<String> members) {
    /** Ordinary package clients. */
    enum Client {
        PIP("pip"),
        MAVEN("mvn");

        final String command;

        Client(String command) {
            this.command = command;
        }
    }

    PackageSpec {
        members = List.copyOf(members);
        if (members.isEmpty() || members.getFirst().contains("*")) {
            throw new IllegalArgumentException(fileName + ": the first member must be the path of one file");
        }
    }

    /** As {@link NativePackage#packageUrl}. */
    String packageUrl() {
        String[] parts = coordinates.split("==|:");
        return switch (client) {
            case PIP -> "pkg:pypi/" + parts[0] + "@" + parts[1];
            case MAVEN ->
                "pkg:maven/" + parts[0] + "/" + parts[1] + "@" + parts[2] + "?classifier=" + parts[4] + "&type="
                        + parts[3];
        };
    }

    /** The names of the unpacked files that must be there. */
    List<String> unpackedNames() {
        return members.stream()
                .filter(m -> !m.contains("*"))
                .map(PackageSpec::lastName)
                .toList();
    }

    /**
     * The part of a path inside the file after the last slash: an entry cannot leave the folder it is unpacked into.
     */
    static String lastName(String member) {
        return member.substring(member.lastIndexOf('/') + 1);
    }
}
