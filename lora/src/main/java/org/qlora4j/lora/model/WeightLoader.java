package org.qlora4j.lora.model;

import java.nio.ByteBuffer;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.file.FloatFormats;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.DoubleQuant;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.QuantState;
import org.qlora4j.nf4.weight.QuantizedMatrix;
import org.qlora4j.nf4.weight.Weight;

/**
 * Brings single weights from a file to a device: as they are, quantized, or with bitsandbytes' own quantization.
 * Reading and quantizing ({@link #read}) may run on many threads at once, in bounded memory; {@link Prepared#upload}
 * runs on the device's thread.
 */
final class WeightLoader implements WeightReader {
    /** Elements that are read at a time. */
    private static final int CHUNK = 1 << 20;

    private final TensorFiles files;
    private final TensorFiles floats;
    private final DType dtype;

    /** @param dtype torch_dtype: what values are rounded to when they are loaded, F32, BF16 or F16 */
    WeightLoader(TensorFiles files, DType dtype) {
        this.files = files;
        this.floats = DequantizedFiles.of(files);
        this.dtype = dtype;
    }

    /** A weight that the file holds in 4 bits stays as it is, whatever the quantization. */
    @Override
    public Prepared read(String name, int rows, int cols, @Nullable Quantization quantization) {
        StoredTensor t = floats.get(name);
        expectShape(t, rows, cols);
        if (BnbWeight.find(files, name).orElse(null) instanceof Bnb4bitWeight weight) {
            return readQuantized(weight);
        }
        if (!t.type().readsAsFloats()) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + name + "' holds " + t.type().name()
                            + " and nothing lies beside it that says how to read it; expected floating point, or"
                            + " bitsandbytes' 4-bit or LLM.int8 weights");
        }
        return quantization == null ? readDense(t, rows, cols) : quantize(t, rows, cols, quantization);
    }

    private static void expectShape(StoredTensor t, long... shape) {
        boolean same = t.rank() == shape.length;
        for (int i = 0; same && i < shape.length; i++) {
            same = t.dim(i) == shape[i];
        }
        if (!same) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + t.name() + "' has shape " + t.shape() + ", config.json says "
                            + java.util.Arrays.toString(shape));
        }
    }

    /** Reads some rows in torch_dtype, widened to fp32. */
    private void readRows(StoredTensor t, int row, int rows, int cols, float[] dst) {
        floats.readFloats(t, (long) row * cols, rows * cols, dst, 0);
        FloatFormats.round(dtype, dst, 0, rows * cols);
    }

    private Prepared readDense(StoredTensor t, int rows, int cols) {
        return (device, scope) -> {
            Tensor values = scope.newTensor(dtype, rows, cols);
            int step = Math.max(1, CHUNK / cols);
            float[] floats = new float[Math.multiplyExact(Math.min(step, rows), cols)];
            for (int r = 0; r < rows; r += step) {
                int n = Math.min(step, rows - r);
                readRows(t, r, n, cols, floats);
                upload(device, values.rows(r, n), floats, n * cols);
            }
            return new Weight.Dense(values);
        };
    }

    /** Each row by its largest magnitude, read and quantized while it is uploaded; LLM.int8's own codes as they are. */
    @Override
    public Prepared readInt8(String name, int rows, int cols) {
        StoredTensor t = files.get(name);
        expectShape(t, rows, cols);
        if (BnbWeight.find(files, name).orElse(null) instanceof BnbInt8Weight stored) {
            return (device, scope) -> {
                Tensor codes = scope.newTensor(DType.I8, rows, cols);
                device.upload(codes, files.readBytes(stored.stored()), 0);
                return new Weight.Int8(codes, floats(device, scope, stored.scales(files)));
            };
        }
        if (!t.type().readsAsFloats()) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + name + "' holds " + t.type().name() + "; 8 bits are made of floating point only");
        }
        return (device, scope) -> {
            Tensor codes = scope.newTensor(DType.I8, rows, cols);
            Tensor absmax = scope.newTensor(DType.F32, 1, rows);
            int step = Math.min(rows, Math.max(1, CHUNK / cols));
            float[] floats = new float[Math.multiplyExact(step, cols)];
            for (int r = 0; r < rows; r += step) {
                int n = Math.min(step, rows - r);
                readRows(t, r, n, cols, floats);
                byte[] bytes = new byte[n * cols];
                float[] largest = new float[n];
                for (int i = 0; i < n * cols; i++) {
                    largest[i / cols] = Math.max(largest[i / cols], Math.abs(floats[i]));
                }
                for (int i = 0; i < n * cols; i++) {
                    bytes[i] = Weight.Int8.code(floats[i], largest[i / cols]);
                }
                device.upload(codes.rows(r, n), bytes, 0);
                device.upload(absmax.cols(r, n), largest, 0);
            }
            return new Weight.Int8(codes, absmax);
        };
    }

    private void upload(Device device, Tensor dst, float[] values, int count) {
        if (dtype == DType.F32) {
            device.upload(dst, values, 0);
            return;
        }
        ByteBuffer bytes =
                ByteBuffer.allocate(Math.multiplyExact(count, dtype.bytes())).order(java.nio.ByteOrder.LITTLE_ENDIAN);
        FloatFormats.encode(dtype, values, 0, count, bytes);
        device.upload(dst, bytes.array(), 0);
    }

    private Prepared quantize(StoredTensor t, int rows, int cols, Quantization q) {
        QuantizedMatrix m = QuantizedMatrix.quantize(
                q.type(),
                q.blockSize(),
                q.doubleQuant(),
                rows,
                cols,
                (row, count, dst) -> readRows(t, row, count, cols, dst));
        DoubleQuant.Nested nested = m.nested();
        return (device, scope) -> new Weight.Quantized(
                q.type(),
                q.blockSize(),
                rows,
                cols,
                bytes(device, scope, m.packed()),
                nested == null
                        ? new Weight.AbsMax.Plain(floats(device, scope, m.absmax()))
                        : nested(
                                device,
                                scope,
                                nested.codes(),
                                nested.absmax2(),
                                DynamicMap.signed(),
                                DoubleQuant.BLOCK_SIZE,
                                nested.offset()));
    }

    private Prepared readQuantized(Bnb4bitWeight w) {
        QuantState state = w.state();
        byte[] packed = files.readBytes(w.packed());
        QuantState.Nested second = state.nested();
        if (second == null) {
            float[] absmax = w.scales(files, 0, Math.toIntExact(w.absmax().elements()));
            return (device, scope) -> new Weight.Quantized(
                    state.type(),
                    state.blockSize(),
                    w.rows(),
                    w.cols(),
                    bytes(device, scope, packed),
                    new Weight.AbsMax.Plain(floats(device, scope, absmax)));
        }
        byte[] codes = files.readBytes(w.absmax());
        float[] absmax2 = w.absmax2(files);
        float[] map = w.dynamicMap(files);
        return (device, scope) -> new Weight.Quantized(
                state.type(),
                state.blockSize(),
                w.rows(),
                w.cols(),
                bytes(device, scope, packed),
                nested(device, scope, codes, absmax2, map, second.blockSize(), second.offset()));
    }

    @Override
    public Tensor vector(Device device, Scope scope, String name, int length, float plus) {
        StoredTensor t = floats.get(name);
        expectShape(t, length);
        float[] values = new float[length];
        readRows(t, 0, 1, length, values);
        for (int i = 0; i < length; i++) {
            values[i] += plus;
        }
        return floats(device, scope, values, device.preciseType());
    }

    private static Tensor bytes(Device device, Scope scope, byte[] values) {
        Tensor t = scope.newTensor(DType.U8, 1, values.length);
        device.upload(t, values, 0);
        return t;
    }

    private static Tensor floats(Device device, Scope scope, float[] values) {
        return floats(device, scope, values, DType.F32);
    }

    private static Tensor floats(Device device, Scope scope, float[] values, DType dtype) {
        Tensor t = scope.newTensor(dtype, 1, values.length);
        device.upload(t, values, 0);
        return t;
    }

    private static Weight.AbsMax nested(
            Device device, Scope scope, byte[] codes, float[] absmax2, float[] map, int blockSize, float offset) {
        return new Weight.AbsMax.Nested(
                bytes(device, scope, codes),
                floats(device, scope, absmax2),
                floats(device, scope, map),
                blockSize,
                offset);
    }
}
