package org.qlora4j.nf4.file;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Writes GGUF files, version 3. The tensors are declared first, their data is then asked for one by one. A file appears
 * whole or not at all ({@link AtomicFile}).
 *
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md">the format</a>
 */
public final class GgufWriter {
    private static final int VERSION = 3;
    private static final int ALIGNMENT = 32;

    private GgufWriter() {}

    /** Gives the data of the declared tensors. */
    @FunctionalInterface
    public interface Source {
        /**
         * Writes all elements of one tensor, in row-major order.
         *
         * @param tensor the tensor whose turn it is
         * @param sink takes its elements as floats, in pieces of whole blocks
         */
        void write(GgufTensor tensor, TensorSink sink) throws IOException;
    }

    /**
     * Writes or replaces one file.
     *
     * @param file the file; its folder must exist
     * @param metadata in this order; a value is a String, Boolean, Integer (uint32), Float, or a List of Strings,
     *     Integers (int32) or Floats
     * @param tensors what to write, in this order
     * @param source called once per tensor
     * @throws IllegalArgumentException if two tensors have the same name, or a value has another type
     * @throws IllegalStateException if the source gives too few or too many elements
     * @throws java.io.UncheckedIOException if writing fails; it names the file, and no part of it stays
     */
    public static void write(Path file, Map<String, Object> metadata, List<GgufTensor> tensors, Source source) {
        ByteBuffer header = header(metadata, tensors);
        AtomicFile.write(file, channel -> {
            AtomicFile.writeFully(channel, header);
            writeData(channel, tensors, source);
        });
    }

    private static void writeData(FileChannel channel, List<GgufTensor> tensors, Source source) throws IOException {
        TensorSink sink = new TensorSink(channel);
        for (GgufTensor tensor : tensors) {
            sink.begin(tensor.name(), tensor.type(), tensor.shape());
            source.write(tensor, sink);
            sink.end();
            AtomicFile.writeFully(channel, ByteBuffer.allocate(padding(tensor.byteLength())));
        }
    }

    private static int padding(long bytes) {
        return (int) (-bytes & ALIGNMENT - 1);
    }

    private static ByteBuffer header(Map<String, Object> metadata, List<GgufTensor> tensors) {
        Output out = new Output();
        out.i32(Integer.reverseBytes(Gguf.MAGIC_BIG_ENDIAN));
        out.i32(VERSION);
        out.i64(tensors.size());
        out.i64(metadata.size());
        metadata.forEach((key, value) -> {
            out.string(key);
            out.typed(key, value);
        });
        Set<String> names = new HashSet<>();
        long offset = 0;
        for (GgufTensor tensor : tensors) {
            if (!names.add(tensor.name())) {
                throw new IllegalArgumentException("tensor '" + tensor.name() + "' is given twice");
            }
            out.string(tensor.name());
            out.i32(tensor.shape().size());
            // GGUF gives the innermost dimension first
            tensor.shape().reversed().forEach(out::i64);
            out.i32(tensor.type().number());
            out.i64(offset);
            offset += tensor.byteLength() + padding(tensor.byteLength());
        }
        out.bytes(new byte[padding(out.size())]);
        return ByteBuffer.wrap(out.toByteArray());
    }

    /** Little-endian numbers and GGUF's typed values. */
    private static final class Output {
        private static final int UINT32 = 4;
        private static final int INT32 = 5;
        private static final int FLOAT32 = 6;
        private static final int BOOL = 7;
        private static final int STRING = 8;
        private static final int ARRAY = 9;

        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        private final ByteBuffer number = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);

        void i32(int value) {
            bytes.write(number.clear().putInt(value).array(), 0, Integer.BYTES);
        }

        void i64(long value) {
            bytes.write(number.clear().putLong(value).array(), 0, Long.BYTES);
        }

        void bytes(byte[] value) {
            bytes.writeBytes(value);
        }

        void string(String text) {
            byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
            i64(utf8.length);
            bytes(utf8);
        }

        void typed(String key, Object value) {
            if (value instanceof List<?> list) {
                i32(ARRAY);
                i32(list.isEmpty() ? STRING : type(key, list.getFirst(), INT32));
                i64(list.size());
                list.forEach(element -> value(key, element, list.getFirst()));
            } else {
                i32(type(key, value, UINT32));
                value(key, value, value);
            }
        }

        private static int type(String key, Object value, int integer) {
            return switch (value) {
                case Integer _ -> integer;
                case Float _ -> FLOAT32;
                case Boolean _ -> BOOL;
                case String _ -> STRING;
                default ->
                    throw new IllegalArgumentException(
                            "metadata '" + key + "' is a " + value.getClass().getSimpleName()
                                    + "; expected String, Boolean, Integer, Float or a List");
            };
        }

        private void value(String key, Object value, Object first) {
            if (value.getClass() != first.getClass()) {
                throw new IllegalArgumentException("the elements of metadata '" + key + "' have different types");
            }
            switch (value) {
                case Integer i -> i32(i);
                case Float f -> i32(Float.floatToRawIntBits(f));
                case Boolean b -> bytes.write(b ? 1 : 0);
                default -> string((String) value);
            }
        }

        int size() {
            return bytes.size();
        }

        byte[] toByteArray() {
            return bytes.toByteArray();
        }
    }
}
