package org.qlora4j.bindings;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.charset.Charset;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import org.jspecify.annotations.Nullable;

/**
 * Fetches packages into a cache.
 *
 * @param cache the folder to fill
 * @param named folders of the user, which may hold a package's file or its unpacked files
 * @param commands the folders of PATH, in which package clients are looked for
 */
record PackageFetcher(Path cache, List<Path> named, List<Path> commands) {
    /** File locks are held by the whole process, so threads need one of their own. */
    private static final Object THIS_PROCESS = new Object();

    /** As {@link NativePackages#ensure}. */
    Path ensure(PackageSpec wanted, Consumer<String> say) {
        Optional<Path> there = find(wanted);
        if (there.isPresent()) {
            return there.get();
        }
        Path folder = cache.resolve(wanted.folderName());
        Path lockFile = cache.resolve(wanted.folderName() + ".lock");
        synchronized (THIS_PROCESS) {
            try {
                Files.createDirectories(cache);
                try (FileChannel channel =
                                FileChannel.open(lockFile, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
                        FileLock lock = channel.lock()) {
                    if (!lock.isValid() || !isComplete(wanted, folder)) {
                        fetch(wanted, folder, say);
                    }
                }
            } catch (IOException e) {
                throw new UncheckedIOException("cannot unpack " + wanted.fileName() + " into " + folder + ": " + e, e);
            }
        }
        return folder;
    }

    /** As {@link NativePackages#find}. */
    Optional<Path> find(PackageSpec wanted) {
        return Stream.concat(named.stream(), Stream.of(cache.resolve(wanted.folderName())))
                .filter(folder -> isComplete(wanted, folder))
                .findFirst();
    }

    private static boolean isComplete(PackageSpec wanted, Path folder) {
        return wanted.unpackedNames().stream().allMatch(name -> Files.isRegularFile(folder.resolve(name)));
    }

    /** The caller holds the lock. */
    private void fetch(PackageSpec wanted, Path folder, Consumer<String> say) throws IOException {
        String prefix = wanted.folderName() + ".part";
        try (DirectoryStream<Path> leftovers = Files.newDirectoryStream(cache, prefix + "*")) {
            for (Path leftover : leftovers) {
                deleteTree(leftover);
            }
        }
        Path work = Files.createTempDirectory(cache, prefix);
        try {
            Path file = broughtByHand(wanted);
            if (file == null) {
                file = download(wanted, work, say);
            }
            String found = sha256(file);
            if (!found.equals(wanted.sha256())) {
                throw new NativeException(
                        wanted.fileName(),
                        "expected SHA-256 " + wanted.sha256() + ", found " + found + " in " + file
                                + "; it is damaged or not the pinned version, and nothing of it was unpacked");
            }
            Path unpacked = Files.createDirectory(work.resolve("unpacked"));
            unpack(wanted, file, unpacked);
            deleteTree(folder);
            Files.move(unpacked, folder, StandardCopyOption.ATOMIC_MOVE);
            say.accept("unpacked %s into %s".formatted(wanted.fileName(), folder));
        } finally {
            deleteTree(work);
        }
    }

    private @Nullable Path broughtByHand(PackageSpec wanted) {
        for (Path folder : named) {
            if (Files.isRegularFile(folder.resolve(wanted.fileName()))) {
                return folder.resolve(wanted.fileName());
            }
        }
        return null;
    }

    private Path download(PackageSpec wanted, Path work, Consumer<String> say) throws IOException {
        List<String> client = client(wanted, work);
        say.accept("fetching %s with %s: %s, %.1f MB"
                .formatted(wanted.coordinates(), wanted.client().command, wanted.fileName(), wanted.bytes() / 1e6));
        Path downloads = Files.createDirectory(work.resolve("download"));
        List<String> arguments = switch (wanted.client()) {
            case PIP ->
                List.of(
                        "download",
                        "--quiet",
                        "--no-input",
                        "--disable-pip-version-check",
                        "--no-deps",
                        "--only-binary=:all:",
                        "--dest",
                        downloads.toString(),
                        wanted.coordinates());
            case MAVEN ->
                List.of(
                        "--batch-mode",
                        "--quiet",
                        "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy",
                        "-Dartifact=" + wanted.coordinates(),
                        "-DoutputDirectory=" + downloads);
        };
        Outcome outcome = run(Stream.concat(client.stream(), arguments.stream()).toList(), work);
        Path file = downloads.resolve(wanted.fileName());
        if (!Files.isRegularFile(file)) {
            throw byHand(
                    wanted,
                    wanted.client().command + " did not fetch it (exit status " + outcome.exit() + ": "
                            + Secrets.hidden(outcome.lastLine()) + ")");
        }
        return file;
    }

    /** The first client that answers. */
    private List<String> client(PackageSpec wanted, Path work) throws IOException {
        List<List<String>> candidates = switch (wanted.client()) {
            case PIP -> List.of(List.of("python3", "-m", "pip"), List.of("pip3"), List.of("pip"));
            case MAVEN -> List.of(List.of("mvn"));
        };
        for (List<String> candidate : candidates) {
            for (Path folder : commands) {
                Path executable = folder.resolve(candidate.getFirst());
                if (Files.isRegularFile(executable) && Files.isExecutable(executable)) {
                    List<String> client = Stream.concat(
                                    Stream.of(executable.toString()),
                                    candidate.stream().skip(1))
                            .toList();
                    if (run(
                                            Stream.concat(client.stream(), Stream.of("--version"))
                                                    .toList(),
                                            work)
                                    .exit()
                            == 0) {
                        return client;
                    }
                    break;
                }
            }
        }
        throw byHand(wanted, wanted.client().command + " is not on the PATH or does not run");
    }

    /** One sentence: why, which file, what to do with it. */
    private static NativeException byHand(PackageSpec wanted, String reason) {
        return new NativeException(
                wanted.coordinates(),
                reason + "; put the file " + wanted.fileName() + " (SHA-256 " + wanted.sha256() + "), or "
                        + String.join(" and ", wanted.unpackedNames())
                        + " out of it, into a folder DIR and name that folder with --natives DIR"
                        + ", -D" + NativeFolders.PROPERTY + "=DIR or " + NativeFolders.ENVIRONMENT + "=DIR");
    }

    private record Outcome(int exit, String lastLine) {}

    private static Outcome run(List<String> command, Path work) throws IOException {
        Path output = work.resolve("output.txt");
        Process process;
        try {
            process = new ProcessBuilder(command)
                    .directory(work.toFile())
                    .redirectErrorStream(true)
                    .redirectOutput(output.toFile())
                    .start();
        } catch (IOException e) {
            return new Outcome(127, String.valueOf(e.getMessage()));
        }
        try {
            process.getOutputStream().close();
            int exit = process.waitFor();
            // not as UTF-8 strictly: the client writes in its own locale
            String text = new String(Files.readAllBytes(output), Charset.defaultCharset());
            return new Outcome(
                    exit,
                    text.lines()
                            .filter(line -> !line.isBlank())
                            .reduce("no output", (a, b) -> b)
                            .strip());
        } catch (InterruptedException e) {
            process.destroy();
            Thread.currentThread().interrupt();
            throw new NativeException(command.getFirst(), "interrupted while fetching");
        }
    }

    private static void unpack(PackageSpec wanted, Path file, Path target) throws IOException {
        try (ZipFile zip = new ZipFile(file.toFile())) {
            for (String member : wanted.members()) {
                Pattern pattern = Pattern.compile(Pattern.quote(member).replace("*", "\\E[^/]*\\Q"));
                List<? extends ZipEntry> entries = zip.stream()
                        .filter(e -> pattern.matcher(e.getName()).matches())
                        .toList();
                if (entries.isEmpty()) {
                    throw new NativeException(wanted.fileName(), "holds no " + member);
                }
                for (ZipEntry entry : entries) {
                    try (InputStream in = zip.getInputStream(entry)) {
                        Files.copy(in, target.resolve(PackageSpec.lastName(entry.getName())));
                    }
                }
            }
        }
    }

    static String sha256(Path file) throws IOException {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            try (InputStream in = new DigestInputStream(Files.newInputStream(file), digest)) {
                in.transferTo(OutputStream.nullOutputStream());
            }
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
    }

    private static void deleteTree(Path root) throws IOException {
        if (!Files.exists(root)) {
            return;
        }
        List<Path> deepestFirst;
        try (Stream<Path> tree = Files.walk(root)) {
            deepestFirst = tree.sorted(Comparator.reverseOrder()).toList();
        }
        for (Path path : deepestFirst) {
            Files.delete(path);
        }
    }
}
