package org.qlora4j.lora.hub;

import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.function.LongConsumer;

/**
 * Downloads one file: into a file beside it that is taken up again after a broken connection or by a later run, and
 * renamed when its size and hash are right.
 */
final class FileDownload {
    /** Breaks in a row without a byte between them. */
    private static final int MAX_BREAKS = 5;

    private final HubConnection connection;
    private final long waitMillis;

    /** @param waitMillis before the first new attempt; doubled for each further one */
    FileDownload(HubConnection connection, long waitMillis) {
        this.connection = connection;
        this.waitMillis = waitMillis;
    }

    /**
     * Brings a file here.
     *
     * @param target where it is to be; its folder exists
     * @param bytes told how many bytes of it are here
     * @throws IOException if it cannot be had, or has another size or hash than the hub said
     */
    void fetch(String address, RepoFile file, Path target, LongConsumer bytes) throws IOException {
        Path part = target.resolveSibling(target.getFileName() + ".qlora4j.incomplete");
        boolean resumed = Files.exists(part) && Files.size(part) > 0;
        complete(address, file, part, bytes);
        if (!isRight(file, part) && resumed) {
            // what an earlier run left may be of another version
            Files.delete(part);
            complete(address, file, part, bytes);
        }
        if (!isRight(file, part)) {
            ContentHash found = file.hash() == null ? null : file.hash().of(part);
            Files.delete(part);
            throw new IOException(file.path() + " was damaged on the way: the hub says " + file.hash() + ", found "
                    + found + "; nothing of it was kept, try again");
        }
        Files.move(part, target, StandardCopyOption.ATOMIC_MOVE);
    }

    private static boolean isRight(RepoFile file, Path part) throws IOException {
        return Files.size(part) == file.size()
                && (file.hash() == null || file.hash().of(part).equals(file.hash()));
    }

    private void complete(String address, RepoFile file, Path part, LongConsumer bytes) throws IOException {
        int breaks = 0;
        while (true) {
            long before = Files.exists(part) ? Files.size(part) : 0;
            if (before > file.size()) {
                Files.delete(part);
                before = 0;
            }
            if (before == file.size() && Files.exists(part)) {
                return;
            }
            IOException broken;
            try {
                receive(address, file, part, before, bytes);
                broken = new IOException("the connection ended at byte " + Files.size(part) + " of " + file.size());
            } catch (HubConnection.RefusedException e) {
                throw e;
            } catch (IOException e) {
                broken = e;
            }
            long after = Files.exists(part) ? Files.size(part) : 0;
            if (after == file.size()) {
                continue;
            }
            breaks = after > before ? 1 : breaks + 1;
            if (breaks > MAX_BREAKS) {
                throw new IOException(
                        file.path() + ": " + broken.getMessage() + "; " + after + " of " + file.size()
                                + " bytes are here and will be used by the next attempt",
                        broken);
            }
            pause(waitMillis << (breaks - 1));
        }
    }

    private void receive(String address, RepoFile file, Path part, long from, LongConsumer bytes) throws IOException {
        Map<String, String> range = from == 0 ? Map.of() : Map.of("Range", "bytes=" + from + "-");
        HttpURLConnection answer = connection.open(address, range);
        boolean goesOn = answer.getResponseCode() == 206
                && String.valueOf(answer.getHeaderField("Content-Range")).startsWith("bytes " + from + "-");
        if (answer.getResponseCode() != 200 && !goesOn) {
            Files.deleteIfExists(part);
            throw new IOException("the server cannot go on at byte " + from);
        }
        long at = goesOn ? from : 0;
        try (InputStream in = HubConnection.body(answer);
                FileChannel out = FileChannel.open(part, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            out.truncate(at);
            out.position(at);
            byte[] buffer = new byte[1 << 16];
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                at += n;
                if (at > file.size()) {
                    throw new IOException("the server sends more than the " + file.size() + " bytes it announced");
                }
                ByteBuffer bytesRead = ByteBuffer.wrap(buffer, 0, n);
                while (bytesRead.hasRemaining()) {
                    out.write(bytesRead);
                }
                bytes.accept(at);
            }
            out.force(true);
        }
    }

    private static void pause(long millis) throws IOException {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted while waiting to try again", e);
        }
    }
}
