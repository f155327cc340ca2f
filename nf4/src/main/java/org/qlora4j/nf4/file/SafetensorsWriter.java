package org.qlora4j.nf4.file;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Writes safetensors files. The tensors are declared first, their data is then asked for one by one, so that a model
 * larger than memory can be written. A file appears whole or not at all ({@link AtomicFile}).
 *
 * @see <a href="https://github.com/huggingface/safetensors#format">the format</a>
 */
public final class SafetensorsWriter {
    /** What PEFT and transformers write. */
    public static final Map<String, String> PT_METADATA = Map.of("format", "pt");

    private static final int ALIGNMENT = 8;
    private static final JsonFactory JSON = new JsonFactory();

    private SafetensorsWriter() {}

    /** Gives the data of the declared tensors. */
    @FunctionalInterface
    public interface Source {
        /**
         * Writes all elements of one tensor, in row-major order.
         *
         * @param tensor the tensor whose turn it is
         * @param sink takes exactly {@code tensor.byteLength()} bytes
         */
        void write(TensorSpec tensor, TensorSink sink) throws IOException;
    }

    /** Writes one file with {@link #PT_METADATA}; see {@link #write(Path, Map, List, Source)}. */
    public static void write(Path file, List<TensorSpec> tensors, Source source) {
        write(file, PT_METADATA, tensors, source);
    }

    /**
     * Writes or replaces one file. Tensors lie in the given order, except that those whose size is no multiple of 8
     * bytes come last, wider element types first: torch needs each tensor aligned to its element size.
     *
     * @param file the file; its folder must exist
     * @param metadata the {@code __metadata__} strings; none if empty
     * @param tensors what to write
     * @param source called once per tensor, in the order of the file
     * @throws IllegalArgumentException if two tensors have the same name
     * @throws IllegalStateException if the source gives too few or too many bytes
     * @throws java.io.UncheckedIOException if writing fails; it names the file, and no part of it stays
     */
    public static void write(Path file, Map<String, String> metadata, List<TensorSpec> tensors, Source source) {
        AtomicFile.rename(writeTemporary(file, metadata, tensors, source), file);
    }

    static Path writeTemporary(Path file, Map<String, String> metadata, List<TensorSpec> tensors, Source source) {
        checkNames(tensors);
        List<TensorSpec> ordered = inFileOrder(tensors);
        return AtomicFile.writeTemporary(file, channel -> {
            AtomicFile.writeFully(channel, header(metadata, ordered));
            writeData(channel, ordered, source);
        });
    }

    static void checkNames(List<TensorSpec> tensors) {
        Set<String> names = new HashSet<>();
        for (TensorSpec tensor : tensors) {
            if (!names.add(tensor.name())) {
                throw new IllegalArgumentException("tensor '" + tensor.name() + "' is given twice");
            }
        }
    }

    private static List<TensorSpec> inFileOrder(List<TensorSpec> tensors) {
        List<TensorSpec> ordered = new ArrayList<>(tensors);
        ordered.sort(Comparator.comparingInt(t ->
                t.byteLength() % ALIGNMENT == 0 ? 0 : ALIGNMENT + 1 - t.dtype().bytes()));
        return ordered;
    }

    private static void writeData(FileChannel channel, List<TensorSpec> tensors, Source source) throws IOException {
        TensorSink sink = new TensorSink(channel);
        for (TensorSpec tensor : tensors) {
            sink.begin(tensor.name(), new StorageType.Plain(tensor.dtype()), tensor.shape());
            source.write(tensor, sink);
            sink.end();
        }
    }

    /** Length and JSON, padded with spaces as the reference implementation does, so that the data is aligned. */
    private static ByteBuffer header(Map<String, String> metadata, List<TensorSpec> tensors) throws IOException {
        ByteArrayOutputStream json = new ByteArrayOutputStream();
        try (JsonGenerator out = JSON.createGenerator(json)) {
            out.writeStartObject();
            if (!metadata.isEmpty()) {
                out.writeObjectFieldStart(SafetensorsHeader.METADATA);
                for (Map.Entry<String, String> entry : new TreeMap<>(metadata).entrySet()) {
                    out.writeStringField(entry.getKey(), entry.getValue());
                }
                out.writeEndObject();
            }
            long offset = 0;
            for (TensorSpec tensor : tensors) {
                long end = Math.addExact(offset, tensor.byteLength());
                writeLocation(out, tensor, offset, end);
                offset = end;
            }
            out.writeEndObject();
        }
        while (json.size() % ALIGNMENT != 0) {
            json.write(' ');
        }
        if (json.size() > SafetensorsHeader.MAX_HEADER_BYTES) {
            throw new IllegalArgumentException("the header of " + tensors.size() + " tensors takes " + json.size()
                    + " bytes, the limit is " + SafetensorsHeader.MAX_HEADER_BYTES);
        }
        ByteBuffer header = ByteBuffer.allocate(Long.BYTES + json.size()).order(ByteOrder.LITTLE_ENDIAN);
        return header.putLong(json.size()).put(json.toByteArray()).flip();
    }

    private static void writeLocation(JsonGenerator out, TensorSpec tensor, long begin, long end) throws IOException {
        out.writeObjectFieldStart(tensor.name());
        out.writeStringField("dtype", tensor.dtype().name());
        out.writeArrayFieldStart("shape");
        for (long size : tensor.shape()) {
            out.writeNumber(size);
        }
        out.writeEndArray();
        out.writeArrayFieldStart("data_offsets");
        out.writeNumber(begin);
        out.writeNumber(end);
        out.writeEndArray();
        out.writeEndObject();
    }
}
