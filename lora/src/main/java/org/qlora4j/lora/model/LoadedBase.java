package org.qlora4j.lora.model;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.file.StorageType;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * A base model as an adapter was trained on it: linear layers that were quantized when it was loaded read as the
 * numbers their codes stand for, all else as in the files. One layer at a time is held in floating point. For the
 * device's thread.
 */
public final class LoadedBase implements TensorFiles {
    private final TensorFiles files;
    private final Device device;
    private final Map<String, Weight.Quantized> quantized = new HashMap<>();
    private String current = "";
    private float[] values = {};

    private LoadedBase(TensorFiles files, Transformer model) {
        this.files = files;
        this.device = model.device();
        for (Linear linear : model.linears()) {
            if (linear.frozen() instanceof Weight.Quantized weight) {
                quantized.put(linear.name() + ".weight", weight);
            }
        }
    }

    /**
     * The view of a source. Closing it closes the source.
     *
     * @param model the source, loaded
     * @throws IllegalArgumentException if no layer of the model is quantized
     */
    public static ModelSource of(ModelSource source, Transformer model) {
        LoadedBase base = new LoadedBase(DequantizedFiles.of(source.tensors()), model);
        if (base.quantized.isEmpty()) {
            throw new IllegalArgumentException(source.path() + " was loaded without quantization: there is no"
                    + " dequantized base; give the run's quant_method and quant_bits");
        }
        return new ModelSource(source.path(), base, source.configJson(), source.config());
    }

    @Override
    public Path location() {
        return files.location();
    }

    @Override
    public Set<String> names() {
        return files.names();
    }

    @Override
    public Optional<StoredTensor> find(String name) {
        Weight.Quantized weight = quantized.get(name);
        return files.find(name).map(t -> weight == null ? t : dense(t, weight));
    }

    private static StoredTensor dense(StoredTensor t, Weight.Quantized weight) {
        long bytes = (long) weight.rows() * weight.cols() * DType.F32.bytes();
        List<Long> shape = List.of((long) weight.rows(), (long) weight.cols());
        return new StoredTensor(t.name(), new StorageType.Plain(DType.F32), shape, t.file(), 0, bytes);
    }

    @Override
    public void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        Weight.Quantized weight = quantized.get(t.name());
        if (weight == null) {
            files.readFloats(t, firstElement, count, dst, dstOffset);
            return;
        }
        if (!current.equals(t.name())) {
            values = new float[Math.toIntExact(t.elements())];
            try (Scope scope = device.newScope()) {
                Tensor out = scope.newPrecise(weight.rows(), weight.cols());
                device.ops().dequantize(out, weight);
                device.download(out, values, 0);
            }
            current = t.name();
        }
        System.arraycopy(values, Math.toIntExact(firstElement), dst, dstOffset, count);
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        return files.readBytes(t);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        files.readBytes(t, offset, dst);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        files.readBytes(t, offset, dst);
    }

    @Override
    public void close() {
        files.close();
    }
}
