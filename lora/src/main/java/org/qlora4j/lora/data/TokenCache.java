package org.qlora4j.lora.data;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.nf4.file.AtomicFile;

/**
 * Tokenized rows on disk, under the hash of everything they were made from: the rows' own bytes, the tokenizer, the
 * template, the options. A file that is damaged is made again.
 *
 * <p>A file: {@code QLROWS1\n}; the number of broken rows, and the first ones in words; the rows, each as its length,
 * ids and labels; all as big-endian 32-bit integers; then the SHA-256 of what comes before.
 *
 * @param folder made when it is needed
 */
public record TokenCache(Path folder) {
    private static final byte[] MAGIC = "QLROWS1\n".getBytes(StandardCharsets.US_ASCII);
    private static final int HASH = 32;
    private static final int MAX_BYTES = Integer.MAX_VALUE - 64;

    /** What is stored. */
    record Content(List<Batch.Row> rows, int brokenRows, List<String> broken) {}

    /** The name of what is made of rows. @param settings everything else that decides about the tokens */
    static String key(List<String> settings, List<RawRow> raw) {
        MessageDigest digest = sha256();
        for (String setting : settings) {
            update(digest, setting.getBytes(StandardCharsets.UTF_8));
        }
        for (RawRow row : raw) {
            update(digest, row.where().getBytes(StandardCharsets.UTF_8));
            update(digest, row.json());
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    /** With its length, so that no two lists give the same bytes. */
    private static void update(MessageDigest digest, byte[] bytes) {
        digest.update(ByteBuffer.allocate(4).putInt(bytes.length).array());
        digest.update(bytes);
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
    }

    private Path file(String key) {
        return folder.resolve(key + ".rows");
    }

    /** What was stored under a key; empty if there is nothing, or nothing whole. */
    Optional<Content> read(String key) {
        Path file = file(key);
        try {
            if (!Files.isRegularFile(file) || Files.size(file) > MAX_BYTES) {
                return Optional.empty();
            }
            return parse(Files.readAllBytes(file));
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + file + ": " + e, e);
        }
    }

    private static Optional<Content> parse(byte[] bytes) {
        int end = bytes.length - HASH;
        if (end < MAGIC.length) {
            return Optional.empty();
        }
        MessageDigest digest = sha256();
        digest.update(bytes, 0, end);
        ByteBuffer in = ByteBuffer.wrap(bytes, 0, end);
        byte[] magic = new byte[MAGIC.length];
        in.get(magic);
        if (!MessageDigest.isEqual(digest.digest(), Arrays.copyOfRange(bytes, end, bytes.length))
                || !MessageDigest.isEqual(magic, MAGIC)) {
            return Optional.empty();
        }
        try {
            int broken = in.getInt();
            List<String> words = new ArrayList<>();
            for (int i = count(in, 4); i > 0; i--) {
                byte[] text = new byte[count(in, 1)];
                in.get(text);
                words.add(new String(text, StandardCharsets.UTF_8));
            }
            List<Batch.Row> rows = new ArrayList<>();
            for (int i = count(in, 4); i > 0; i--) {
                int length = count(in, 8);
                rows.add(new Batch.Row(integers(in, length), integers(in, length)));
            }
            return in.hasRemaining() ? Optional.empty() : Optional.of(new Content(rows, broken, words));
        } catch (BufferUnderflowException | IllegalArgumentException e) {
            return Optional.empty();
        }
    }

    /** A number of things of at least so many bytes: no more than can follow. */
    private static int count(ByteBuffer in, int bytesEach) {
        int count = in.getInt();
        if (count < 0 || count > in.remaining() / bytesEach) {
            throw new BufferUnderflowException();
        }
        return count;
    }

    private static int[] integers(ByteBuffer in, int count) {
        int[] values = new int[count];
        for (int i = 0; i < count; i++) {
            values[i] = in.getInt();
        }
        return values;
    }

    /** For this user alone, whoever may read the data: the rows are its text, as numbers. */
    private void makeFolder() throws IOException {
        Path parent = folder.toAbsolutePath().getParent();
        if (Files.isDirectory(folder) || parent == null) {
            return;
        }
        Files.createDirectories(parent);
        boolean posix = Files.getFileStore(parent).supportsFileAttributeView(PosixFileAttributeView.class);
        FileAttribute<?>[] mine = posix
                ? new FileAttribute<?>[] {
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"))
                }
                : new FileAttribute<?>[0];
        Files.createDirectories(folder, mine);
    }

    /** Stores rows, unless they are too many for one file. */
    void write(String key, Content content) {
        long bytes = MAGIC.length + 12L;
        List<byte[]> words = content.broken.stream()
                .map(text -> text.getBytes(StandardCharsets.UTF_8))
                .toList();
        for (byte[] text : words) {
            bytes += 4L + text.length;
        }
        for (Batch.Row row : content.rows) {
            bytes += 4 + 8L * row.ids().length;
        }
        if (bytes + HASH > MAX_BYTES) {
            return;
        }
        ByteBuffer out = ByteBuffer.allocate((int) bytes + HASH);
        out.put(MAGIC).putInt(content.brokenRows).putInt(words.size());
        words.forEach(text -> out.putInt(text.length).put(text));
        out.putInt(content.rows.size());
        for (Batch.Row row : content.rows) {
            out.putInt(row.ids().length);
            for (int id : row.ids()) {
                out.putInt(id);
            }
            for (int label : row.labels()) {
                out.putInt(label);
            }
        }
        MessageDigest digest = sha256();
        digest.update(out.array(), 0, out.position());
        out.put(digest.digest()).flip();
        try {
            makeFolder();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot make the folder " + folder + ": " + e, e);
        }
        AtomicFile.write(file(key), channel -> {
            while (out.hasRemaining()) {
                channel.write(out);
            }
        });
    }
}
