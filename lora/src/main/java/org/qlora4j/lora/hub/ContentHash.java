package org.qlora4j.lora.hub;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Locale;

/**
 * The hash of a file's content.
 *
 * @param kind which one
 * @param hex its value
 */
record ContentHash(Kind kind, String hex) {
    /** Hashes that hubs give. */
    enum Kind {
        SHA256("SHA-256", 64),
        /** SHA-1 of the content behind git's header for blobs: files that are not in LFS. */
        GIT_BLOB("SHA-1", 40);

        final String algorithm;
        final int length;

        Kind(String algorithm, int length) {
            this.algorithm = algorithm;
            this.length = length;
        }
    }

    /** Checks the form: the value becomes a file's name. */
    ContentHash {
        hex = hex.toLowerCase(Locale.ROOT);
        if (!hex.matches("[0-9a-f]{" + kind.length + "}")) {
            throw new IllegalArgumentException("the hub gives '" + hex + "' as a " + kind.algorithm);
        }
    }

    /** The hash of this kind of a file here. */
    ContentHash of(Path file) throws IOException {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance(kind.algorithm);
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has " + kind.algorithm, e);
        }
        if (kind == Kind.GIT_BLOB) {
            digest.update(("blob " + Files.size(file) + "\0").getBytes(StandardCharsets.UTF_8));
        }
        byte[] buffer = new byte[1 << 16];
        try (InputStream in = Files.newInputStream(file)) {
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                digest.update(buffer, 0, n);
            }
        }
        return new ContentHash(kind, HexFormat.of().formatHex(digest.digest()));
    }
}
