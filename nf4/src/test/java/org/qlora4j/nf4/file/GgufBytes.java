package org.qlora4j.nf4.file;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Bytes of a GGUF file, little-endian. */
final class GgufBytes {
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();

    static GgufBytes header(int version, long tensors, long metadata) {
        return new GgufBytes().text("GGUF").i32(version).i64(tensors).i64(metadata);
    }

    GgufBytes i32(int value) {
        out.writeBytes(ByteBuffer.allocate(4)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putInt(value)
                .array());
        return this;
    }

    GgufBytes i64(long value) {
        out.writeBytes(ByteBuffer.allocate(8)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(value)
                .array());
        return this;
    }

    GgufBytes text(String text) {
        out.writeBytes(text.getBytes(StandardCharsets.UTF_8));
        return this;
    }

    GgufBytes string(String text) {
        return i64(text.length()).text(text);
    }

    GgufBytes key(String key, int type) {
        return string(key).i32(type);
    }

    /** A tensor; the dimensions innermost first, as in the file. */
    GgufBytes tensor(String name, int type, long offset, long... dims) {
        string(name).i32(dims.length);
        Arrays.stream(dims).forEach(this::i64);
        return i32(type).i64(offset);
    }

    GgufBytes data(int bytes) {
        out.writeBytes(new byte[(32 - out.size() % 32) % 32 + bytes]);
        return this;
    }

    byte[] get() {
        return out.toByteArray();
    }

    GgufBytes bytes(byte[] bytes) {
        out.writeBytes(bytes);
        return this;
    }
}
