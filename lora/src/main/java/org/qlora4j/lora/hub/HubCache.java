package org.qlora4j.lora.hub;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.qlora4j.nf4.file.AtomicFile;

/**
 * The folders of the hubs' Python tools, which are shared with them. Hugging Face's: {@code models--owner--name} with
 * {@code refs/main}, {@code snapshots/COMMIT} and {@code blobs}, to which a snapshot's files are links. ModelScope's:
 * {@code models/owner/name} with the files, a '.' in the name written as {@code ___}.
 *
 * @param root of this hub
 */
record HubCache(Hub hub, Path root) {
    /** In a ModelScope folder while files of it are missing. */
    private static final String UNFINISHED = ".qlora4j-unfinished";
    /** In a folder that was filled here: the names of all files on the hub, of which only some were asked for. */
    private static final String LISTED = ".qlora4j-files";

    private static final int MAX_LISTED = 64 << 20;

    /** Files that are here. */
    record Found(Path folder, List<String> names) {}

    /**
     * An id's files.
     *
     * @param choose the files to have, of those that there are; throws IllegalArgumentException if there are none
     */
    Optional<Found> find(Hub.Kind kind, HubId id, UnaryOperator<List<String>> choose) {
        return candidates(kind, id)
                .filter(folder -> Files.isDirectory(folder) && !Files.exists(folder.resolve(UNFINISHED)))
                .flatMap(folder -> complete(kind, folder, choose).stream())
                .findFirst();
    }

    private static Optional<Found> complete(Hub.Kind kind, Path folder, UnaryOperator<List<String>> choose) {
        List<String> here = names(folder);
        Path listed = folder.resolve(LISTED);
        try {
            boolean isListed = Files.isRegularFile(listed) && Files.size(listed) <= MAX_LISTED;
            List<String> wanted = choose.apply(isListed ? Files.readAllLines(listed) : here);
            boolean complete = new HashSet<>(here).containsAll(wanted)
                    && (kind == Hub.Kind.DATASET || ModelFiles.isComplete(wanted));
            return complete ? Optional.of(new Found(folder, wanted)) : Optional.empty();
        } catch (IllegalArgumentException e) {
            return Optional.empty();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + listed + ": " + e, e);
        }
    }

    private Stream<Path> candidates(Hub.Kind kind, HubId id) {
        if (hub == Hub.HUGGING_FACE) {
            Path repository = repository(kind, id);
            return commit(repository).stream()
                    .map(commit -> repository.resolve("snapshots").resolve(commit));
        }
        String name = id.name().replace(".", "___");
        Stream<Path> owners = Stream.of(root.resolve(kind.plural).resolve(id.owner()), root.resolve(id.owner()));
        return owners.limit(kind == Hub.Kind.MODEL ? 2 : 1)
                .flatMap(owner -> Stream.of(owner.resolve(name), owner.resolve(id.name())));
    }

    private Path repository(Hub.Kind kind, HubId id) {
        return root.resolve(kind.plural + "--" + id.owner() + "--" + id.name());
    }

    private static Optional<String> commit(Path repository) {
        Path ref = repository.resolve("refs").resolve(Hub.HUGGING_FACE.revision);
        try {
            if (!Files.isRegularFile(ref) || Files.size(ref) > 100) {
                return Optional.empty();
            }
            String commit = Files.readString(ref).strip();
            return commit.matches("[0-9a-f]{40}") ? Optional.of(commit) : Optional.empty();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + ref + ": " + e, e);
        }
    }

    /** Paths of the files below a folder, with '/'; links to files that are gone are left out. */
    static List<String> names(Path folder) {
        try (Stream<Path> walk = Files.walk(folder, 8)) {
            return walk.filter(Files::isRegularFile)
                    .map(file -> folder.relativize(file).toString().replace('\\', '/'))
                    .sorted()
                    .toList();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read the folder " + folder + ": " + e, e);
        }
    }

    /** Where an id's files will be; {@link #finish} makes it found. */
    Path begin(HubListing listing) throws IOException {
        Path folder;
        if (hub == Hub.HUGGING_FACE) {
            Path repository = repository(listing.kind(), listing.id());
            folder = repository.resolve("snapshots").resolve(listing.revision());
            Files.createDirectories(repository.resolve("blobs"));
            Files.createDirectories(folder);
        } else {
            folder = root.resolve(listing.kind().plural)
                    .resolve(listing.id().owner())
                    .resolve(listing.id().name().replace(".", "___"));
            Files.createDirectories(folder);
            if (!Files.exists(folder.resolve(UNFINISHED))) {
                Files.createFile(folder.resolve(UNFINISHED));
            }
        }
        String names = listing.files().stream().map(RepoFile::path).collect(Collectors.joining("\n"));
        AtomicFile.writeString(folder.resolve(LISTED), names);
        return folder;
    }

    /** Where a file's content is kept: under its hash on Hugging Face, so that versions share it. */
    Path content(Path folder, RepoFile file) throws IOException {
        Path inFolder = folder.resolve(file.path());
        Files.createDirectories(parent(inFolder));
        ContentHash hash = file.hash();
        return hub == Hub.HUGGING_FACE && hash != null
                ? folder.resolveSibling("..").resolve("blobs").normalize().resolve(hash.hex())
                : inFolder;
    }

    /** Shows a file whose content is here under its own name. */
    void show(Path folder, RepoFile file, Path content) throws IOException {
        Path inFolder = folder.resolve(file.path());
        if (!content.equals(inFolder) && !Files.exists(inFolder)) {
            Files.deleteIfExists(inFolder);
            try {
                Files.createSymbolicLink(inFolder, parent(inFolder).relativize(content));
            } catch (FileAlreadyExistsException e) {
                // another process was faster
            }
        }
    }

    /** All files are here. */
    void finish(HubListing listing, Path folder) throws IOException {
        if (hub == Hub.HUGGING_FACE) {
            Path refs = repository(listing.kind(), listing.id()).resolve("refs");
            Files.createDirectories(refs);
            AtomicFile.writeString(refs.resolve(listing.hub().revision), listing.revision());
        } else {
            Files.deleteIfExists(folder.resolve(UNFINISHED));
        }
    }

    private static Path parent(Path file) {
        return file.resolve("..").normalize();
    }
}
