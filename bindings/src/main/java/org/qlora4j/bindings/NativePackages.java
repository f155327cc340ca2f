package org.qlora4j.bindings;

import java.io.File;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.function.Consumer;

/**
 * Brings {@link NativePackage}s onto this machine with the ordinary package clients (pip, mvn), once, and checks their
 * SHA-256.
 *
 * <p>A folder named by system property {@code qlora4j.natives} or environment QLORA4J_NATIVES may hold the package's
 * file, which is then checked and unpacked instead of a download, or the unpacked files, which are used as they are.
 */
public final class NativePackages {
    private NativePackages() {}

    /**
     * Makes sure that a package's files are there. Without network if they are already. Safe against other threads and
     * processes.
     *
     * @param say takes one line for people before and after each download
     * @return the folder with the unpacked files
     * @throws NativeException if it cannot be fetched or its hash is wrong; the message says which file to bring by
     *     hand
     * @throws java.io.UncheckedIOException if the cache cannot be written
     */
    public static Path ensure(NativePackage wanted, Consumer<String> say) {
        return fetcher().ensure(wanted.spec(), say);
    }

    /** The folder with the package's unpacked files, if they are there already; fetches nothing. */
    public static Optional<Path> find(NativePackage wanted) {
        return fetcher().find(wanted.spec());
    }

    private static PackageFetcher fetcher() {
        String path = System.getenv("PATH");
        List<Path> commands = path == null
                ? List.of()
                : Arrays.stream(path.split(File.pathSeparator))
                        .filter(p -> !p.isBlank())
                        .map(Path::of)
                        .toList();
        List<Path> named = NativeFolders.namedByUser().stream()
                .map(NativeFolders.Place::folder)
                .toList();
        return new PackageFetcher(CacheFolder.path(), named, commands);
    }
}
