package org.qlora4j.lora.model;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.StorageType;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;

/**
 * A bitsandbytes checkpoint as floating point numbers: 4-bit and LLM.int8 weights read as the matrices they stand for,
 * their scales are hidden. All other tensors are as in the files.
 */
public final class DequantizedFiles implements TensorFiles {
    private final TensorFiles files;
    private final Map<String, StoredTensor> tensors;
    private final Map<String, BnbWeight> quantized;

    private DequantizedFiles(TensorFiles files, Map<String, StoredTensor> tensors, Map<String, BnbWeight> quantized) {
        this.files = files;
        this.tensors = tensors;
        this.quantized = quantized;
    }

    /**
     * A view of open files; closing the view closes them. Without quantized tensors it is the files themselves.
     *
     * @throws ModelFormatException if a quantized weight and what lies beside it do not fit
     */
    public static TensorFiles of(TensorFiles files) {
        Map<String, BnbWeight> quantized = new LinkedHashMap<>();
        for (String name : files.names()) {
            BnbWeight.find(files, name).ifPresent(weight -> quantized.put(name, weight));
        }
        if (quantized.isEmpty()) {
            return files;
        }
        Map<String, StoredTensor> tensors = new LinkedHashMap<>();
        for (String name : files.names()) {
            BnbWeight weight = quantized.get(name);
            if (weight != null) {
                List<Long> shape = List.of((long) weight.rows(), (long) weight.cols());
                long bytes =
                        (long) weight.rows() * weight.cols() * weight.dtype().bytes();
                Path file = files.get(name).file();
                tensors.put(name, new StoredTensor(name, new StorageType.Plain(weight.dtype()), shape, file, 0, bytes));
            } else if (!BnbWeight.isPart(name)) {
                tensors.put(name, files.get(name));
            }
        }
        return new DequantizedFiles(files, Collections.unmodifiableMap(tensors), quantized);
    }

    @Override
    public Path location() {
        return files.location();
    }

    @Override
    public Set<String> names() {
        return tensors.keySet();
    }

    @Override
    public Optional<StoredTensor> find(String name) {
        return Optional.ofNullable(tensors.get(name));
    }

    @Override
    public void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        BnbWeight weight = quantized.get(t.name());
        if (weight == null) {
            files.readFloats(t, firstElement, count, dst, dstOffset);
            return;
        }
        if (firstElement < 0 || count < 0 || firstElement > t.elements() - count) {
            throw new IllegalArgumentException("elements " + firstElement + " .. +" + count + " are outside of tensor '"
                    + t.name() + "' with " + t.elements() + " elements");
        }
        weight.dequantize(files, firstElement, count, dst, dstOffset);
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        return files.readBytes(stored(t));
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        files.readBytes(stored(t), offset, dst);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        files.readBytes(stored(t), offset, dst);
    }

    private StoredTensor stored(StoredTensor t) {
        if (quantized.containsKey(t.name())) {
            throw new IllegalArgumentException("tensor '" + t.name() + "' is quantized in the file; read it as floats");
        }
        return t;
    }

    @Override
    public void close() {
        files.close();
    }
}
