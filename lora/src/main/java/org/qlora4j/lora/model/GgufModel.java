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
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;

/**
 * A model in GGUF under Hugging Face's names. Of some families llama.cpp stores the rows of q and k so that rotary
 * pairs lie side by side; they are put back into halves here. Matrices of experts are parts of one tensor, Gemma's
 * norms are stored as 1 + w.
 */
final class GgufModel implements TensorFiles {
    private final Gguf gguf;
    private final GgufArchitecture architecture;
    private final ModelConfig config;
    private final Map<String, StoredTensor> tensors;

    GgufModel(Gguf gguf, ModelConfig config) {
        this.gguf = gguf;
        this.config = config;
        this.architecture = GgufArchitecture.ofModelType(config.modelType());
        Map<String, StoredTensor> map = new LinkedHashMap<>();
        for (String name : gguf.names()) {
            if (!GgufRope.isFactors(name)) {
                add(map, gguf.get(name));
            }
        }
        this.tensors = Collections.unmodifiableMap(map);
    }

    private void add(Map<String, StoredTensor> map, StoredTensor t) {
        ExpertsConfig experts = config.layers().getFirst().experts();
        int count = experts == null ? 1 : experts.numExperts();
        List<String> names = architecture.huggingFaceNames(t.name(), count);
        if (names.isEmpty() || names.getFirst().endsWith(".bias") && !hasBias(names.getFirst())) {
            // llama.cpp would add it, and so would the model it was made from
            throw new UnsupportedModelException(gguf.location() + ": tensor '" + t.name()
                    + "' is not part of a model of type " + config.modelType() + " as it is supported here");
        }
        if (!GgufArchitecture.isOfExperts(t.name())) {
            map.put(
                    names.getFirst(),
                    new StoredTensor(names.getFirst(), t.type(), t.shape(), t.file(), t.offset(), t.byteLength()));
            return;
        }
        if (t.rank() != 3 || t.dim(0) != count) {
            throw new ModelFormatException(
                    gguf.location(),
                    "tensor '" + t.name() + "' must hold " + count + " matrices, has shape " + t.shape());
        }
        long bytes = t.byteLength() / count;
        for (int e = 0; e < count; e++) {
            String name = names.get(e);
            map.put(
                    name,
                    new StoredTensor(name, t.type(), t.shape().subList(1, 3), t.file(), t.offset() + e * bytes, bytes));
        }
    }

    private boolean hasBias(String name) {
        if (name.contains(".mlp.")) {
            return config.mlpBias();
        }
        return name.contains(".o_proj.") ? config.outputBias() : config.qkvBias();
    }

    private boolean isInterleaved(StoredTensor t) {
        return architecture.isInterleaved(t.name());
    }

    @Override
    public Path location() {
        return gguf.location();
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
        readInOrder(t, firstElement, count, dst, dstOffset);
        GgufValues.of(config, t.name()).fromGguf(dst, dstOffset, count);
    }

    private void readInOrder(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        if (!isInterleaved(t)) {
            gguf.readFloats(t, firstElement, count, dst, dstOffset);
            return;
        }
        int rowLength = t.rank() == 1 ? 1 : Math.toIntExact(t.dim(1));
        if (firstElement % rowLength != 0 || count % rowLength != 0) {
            throw new IllegalArgumentException(
                    "tensor '" + t.name() + "' is read in whole rows of " + rowLength + " only");
        }
        for (int r = 0; r < count / rowLength; r++) {
            long stored = GgufArchitecture.interleavedRow(firstElement / rowLength + r, config.headDim());
            gguf.readFloats(t, stored * rowLength, rowLength, dst, dstOffset + r * rowLength);
        }
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        refuseBytes(t);
        return gguf.readBytes(t);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        refuseBytes(t);
        gguf.readBytes(t, offset, dst);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        refuseBytes(t);
        gguf.readBytes(t, offset, dst);
    }

    private void refuseBytes(StoredTensor t) {
        if (isInterleaved(t) || !GgufValues.of(config, t.name()).equals(GgufValues.SAME)) {
            throw new IllegalArgumentException(
                    "tensor '" + t.name() + "' has llama.cpp's order or numbers; read it as floats");
        }
    }

    @Override
    public void close() {
        gguf.close();
    }
}
