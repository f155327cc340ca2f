package org.qlora4j.lora.hub;

import org.jspecify.annotations.Nullable;

/**
 * A file of a repository, as the hub lists it.
 *
 * @param path with '/', relative and below the repository
 * @param size in bytes
 * @param hash what its content must have; null if the hub does not say
 */
record RepoFile(String path, long size, @Nullable ContentHash hash) {
    private static final int MAX_PATH = 500;

    /** Checks the path: it becomes a file's name here. */
    RepoFile {
        if (path.isEmpty() || path.length() > MAX_PATH || size < 0) {
            throw new IllegalArgumentException("the hub lists a file '" + path + "' with " + size + " bytes");
        }
        for (String part : path.split("/", -1)) {
            boolean plain = part.chars().noneMatch(c -> c < ' ' || c == '\\' || c == ':' || c == 127);
            if (part.isEmpty() || part.equals(".") || part.equals("..") || !plain) {
                throw new IllegalArgumentException(
                        "the hub lists a file '" + path + "', which is no path inside the repository; it is not used");
            }
        }
    }
}
