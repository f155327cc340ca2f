package org.qlora4j.lora.model;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;

/**
 * A model in GGUF under Hugging Face's names. Of some families llama.cpp stores the rows of q and k so that rotary
 * pairs lie side by side; they are put back into halves here.
 */
final class GgufModel implements TensorFiles {
    private final Gguf gguf;
    private final GgufArchitecture architecture;
    private final int headDim;
    private final Map<String, StoredTensor> tensors;

    GgufModel(Gguf gguf, ModelConfig config) {
        this.gguf = gguf;
        this.architecture = GgufArchitecture.ofModelType(config.modelType());
        this.headDim = config.headDim();
        Map<String, StoredTensor> map = new LinkedHashMap<>();
        for (String name : gguf.names()) {
            StoredTensor t = gguf.get(name);
            architecture
                    .huggingFaceName(name)
                    .ifPresent(hf -> map.put(
                            hf, new StoredTensor(hf, t.type(), t.shape(), t.file(), t.offset(), t.byteLength())));
        }
        this.tensors = Collections.unmodifiableMap(map);
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
            long stored = GgufArchitecture.interleavedRow(firstElement / rowLength + r, headDim);
            gguf.readFloats(t, stored * rowLength, rowLength, dst, dstOffset + r * rowLength);
        }
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        refuseInterleaved(t);
        return gguf.readBytes(t);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        refuseInterleaved(t);
        gguf.readBytes(t, offset, dst);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        refuseInterleaved(t);
        gguf.readBytes(t, offset, dst);
    }

    private void refuseInterleaved(StoredTensor t) {
        if (isInterleaved(t)) {
            throw new IllegalArgumentException(
                    "tensor '" + t.name() + "' has its rows in llama.cpp's order; read it as floats");
        }
    }

    @Override
    public void close() {
        gguf.close();
    }
}
