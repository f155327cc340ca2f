package org.qlora4j.samples.supply;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;

/**
 * The entries of NOTICE: lines that begin with two blanks and hold name, licence and native files, two blanks apart.
 */
final class Notice {
    private final Map<String, String[]> entries = new HashMap<>();
    private final Set<String> unused = new TreeSet<>();

    static Notice read(Path file) throws IOException {
        Notice notice = new Notice();
        for (String line : Files.readAllLines(file)) {
            if (line.startsWith("  ")) {
                String[] columns = line.strip().split(" {2,}", 3);
                notice.entries.put(columns[0], columns);
                notice.unused.add(columns[0]);
            }
        }
        return notice;
    }

    /** What is wrong with the entry of a package, if anything. */
    Optional<String> check(String name, String license, List<String> nativeFiles) {
        String[] entry = entries.get(name);
        if (entry == null) {
            return Optional.of("NOTICE has no line for " + name + ", whose licence is '" + license
                    + "'; read it and add" + " '  " + name + "  " + license + "'");
        }
        unused.remove(name);
        if (entry.length < 2 || !entry[1].equals(license)) {
            return Optional.of("NOTICE says that the licence of " + name + " is '" + (entry.length < 2 ? "" : entry[1])
                    + "', its own metadata say '" + license + "'");
        }
        String files = entry.length < 3 ? "" : entry[2];
        List<String> missing =
                nativeFiles.stream().filter(file -> !files.contains(file)).toList();
        return missing.isEmpty()
                ? Optional.empty()
                : Optional.of("NOTICE's line for " + name + " does not name the native libraries in it: "
                        + String.join(", ", missing));
    }

    /** Entries that were not asked for. */
    List<String> unused() {
        return unused.stream()
                .map(name -> "NOTICE has a line for " + name + ", which is not used")
                .toList();
    }
}
