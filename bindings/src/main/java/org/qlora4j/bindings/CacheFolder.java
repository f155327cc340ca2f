package org.qlora4j.bindings;

import java.nio.file.Path;

/** Where fetched packages and unpacked libraries lie. */
public final class CacheFolder {
    private CacheFolder() {}

    /**
     * System property {@code qlora4j.cache}, else environment QLORA4J_CACHE, else {@code $XDG_CACHE_HOME/qlora4j}, else
     * {@code ~/.cache/qlora4j}. Read anew at each call; not created.
     */
    public static Path path() {
        String named = System.getProperty("qlora4j.cache", System.getenv("QLORA4J_CACHE"));
        if (named != null && !named.isBlank()) {
            return Path.of(named).toAbsolutePath();
        }
        String xdg = System.getenv("XDG_CACHE_HOME");
        Path caches = xdg == null || xdg.isBlank() ? Path.of(System.getProperty("user.home"), ".cache") : Path.of(xdg);
        return caches.resolve("qlora4j").toAbsolutePath();
    }
}
