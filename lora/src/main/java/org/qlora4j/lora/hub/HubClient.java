package org.qlora4j.lora.hub;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.UnknownHostException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.Secrets;

/**
 * Finds models and data sets by their ids: in the caches of both hubs' Python tools, then by a download into them.
 * Every file is checked against the size and hash that the hub gives; nothing of it is run.
 */
public final class HubClient {
    /** File locks are held by the whole process, so threads need one of their own. */
    private static final Object THIS_PROCESS = new Object();

    private static final int TIMEOUT_MILLIS = 20_000;
    private static final long WAIT_MILLIS = 500;

    private final HubSettings settings;
    private final Hub preferred;
    private final HubProgress progress;
    private final int timeoutMillis;
    private final long waitMillis;

    /** @param preferred the hub that is asked where an entry names none */
    public HubClient(HubSettings settings, Hub preferred, HubProgress progress) {
        this(settings, preferred, progress, TIMEOUT_MILLIS, WAIT_MILLIS);
    }

    HubClient(HubSettings settings, Hub preferred, HubProgress progress, int timeoutMillis, long waitMillis) {
        this.settings = settings;
        this.preferred = preferred;
        this.progress = progress;
        this.timeoutMillis = timeoutMillis;
        this.waitMillis = waitMillis;
    }

    /**
     * The folder of a model: config.json, tokenizer and safetensors.
     *
     * @throws UncheckedIOException if it is not here and cannot be downloaded; says why
     */
    public Path model(HubId id) {
        return find(id, null, Hub.Kind.MODEL, names -> ModelFiles.choose(id, names))
                .folder();
    }

    /**
     * The files of a data set.
     *
     * @param named the hub to ask; null for the preferred one
     * @param choose the files to have, of those that there are; throws IllegalArgumentException if there are none
     * @throws UncheckedIOException if it is not here and cannot be downloaded; says why
     */
    public List<Path> dataset(HubId id, @Nullable Hub named, UnaryOperator<List<String>> choose) {
        HubCache.Found found = find(id, named, Hub.Kind.DATASET, choose);
        return found.names().stream().map(found.folder()::resolve).toList();
    }

    private HubCache.Found find(HubId id, @Nullable Hub named, Hub.Kind kind, UnaryOperator<List<String>> choose) {
        Hub first = named == null ? preferred : named;
        for (Hub hub : Hub.values()) {
            // the preferred hub's first
            Hub at = hub == Hub.HUGGING_FACE ? first : other(first);
            if (named == null || at == named) {
                Optional<HubCache.Found> here = cache(at).find(kind, id, choose);
                if (here.isPresent()) {
                    return here.get();
                }
            }
        }
        try {
            if (settings.offline()) {
                throw new IOException("HF_HUB_OFFLINE is set, nothing is downloaded");
            }
            return download(first, kind, id, choose);
        } catch (IOException e) {
            Hub other = other(first);
            throw new UncheckedIOException(
                    Secrets.hidden(id + " is in no cache and cannot be downloaded from " + first.title
                            + " ("
                            + settings.endpoint(first)
                            + "): " + reason(e) + "; name a folder instead, try "
                            + (other == Hub.HUGGING_FACE ? "--use_hf true" : "--use_hf false") + " for " + other.title
                            + ", or set " + first.endpointVariable),
                    e);
        }
    }

    private static Hub other(Hub hub) {
        return hub == Hub.HUGGING_FACE ? Hub.MODELSCOPE : Hub.HUGGING_FACE;
    }

    private static String reason(IOException e) {
        return e instanceof UnknownHostException
                ? "there is no host " + e.getMessage()
                : String.valueOf(e.getMessage());
    }

    private HubCache cache(Hub hub) {
        return new HubCache(hub, settings.cache(hub));
    }

    private HubCache.Found download(Hub hub, Hub.Kind kind, HubId id, UnaryOperator<List<String>> choose)
            throws IOException {
        HubConnection connection = new HubConnection(hub, settings, timeoutMillis);
        HubListing listing = HubListing.of(connection, hub, kind, id);
        List<String> names = listing.files().stream().map(RepoFile::path).toList();
        Set<String> wanted = new HashSet<>(choose.apply(names));
        List<RepoFile> files =
                listing.files().stream().filter(f -> wanted.contains(f.path())).toList();
        HubCache cache = cache(hub);
        Files.createDirectories(cache.root());
        Path lockFile =
                cache.root().resolve(".qlora4j-" + kind.plural + "--" + id.owner() + "--" + id.name() + ".lock");
        synchronized (THIS_PROCESS) {
            try (FileChannel channel = FileChannel.open(lockFile, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
                    FileLock lock = channel.lock()) {
                if (!lock.isValid()) {
                    throw new IOException("the lock of " + lockFile + " was lost");
                }
                return download(connection, listing, files, cache);
            }
        }
    }

    private HubCache.Found download(HubConnection connection, HubListing listing, List<RepoFile> files, HubCache cache)
            throws IOException {
        Path folder = cache.begin(listing);
        long all = files.stream().mapToLong(RepoFile::size).sum();
        long free = Files.getFileStore(folder).getUsableSpace();
        progress.say("downloading %s from %s: %d files, %.1f MB, into %s"
                .formatted(listing.id(), listing.hub().title, files.size(), all / 1e6, folder));
        if (all > free) {
            throw new IOException(
                    "%.1f MB are needed in %s, %.1f MB are free".formatted(all / 1e6, folder, free / 1e6));
        }
        FileDownload download = new FileDownload(connection, waitMillis);
        long before = 0;
        for (RepoFile file : files) {
            Path content = cache.content(folder, file);
            if (!Files.isRegularFile(content) || Files.size(content) != file.size()) {
                long base = before;
                download.fetch(
                        settings.endpoint(listing.hub()) + listing.address(file),
                        file,
                        content,
                        bytes -> progress.bytes(String.valueOf(listing.id()), base + bytes, all));
            }
            cache.show(folder, file, content);
            before += file.size();
            progress.bytes(String.valueOf(listing.id()), before, all);
        }
        cache.finish(listing, folder);
        return new HubCache.Found(folder, files.stream().map(RepoFile::path).toList());
    }
}
