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
import org.qlora4j.nf4.weight.BlockQuantizer;
import org.qlora4j.nf4.weight.DoubleQuant;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.QuantState;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/**
 * Brings single weights from a file to a device: as they are, quantized, or with bitsandbytes' own quantization.
 * Reading and quantizing ({@link #read}) may run on many threads at once, in bounded memory; {@link Prepared#upload}
 * runs on the device's thread.
 */
final class WeightLoader implements WeightReader {
    /** Elements that are read and quantized at a time: a multiple of every block size. */
    private static final int CHUNK = 1 << 20;

    private final TensorFiles files;
    private final DType dtype;

    /** @param dtype torch_dtype: what values are rounded to when they are loaded, F32, BF16 or F16 */
    WeightLoader(TensorFiles files, DType dtype) {
        this.files = files;
        this.dtype = dtype;
    }

    /** A weight that the file holds in 4 bits stays as it is, whatever the quantization. */
    @Override
    public Prepared read(String name, int rows, int cols, @Nullable Quantization quantization) {
        StoredTensor t = files.get(name);
        for (QuantType type : QuantType.values()) {
            if (files.find(name + "." + QuantState.key(type)).isPresent()) {
                return readQuantized(t, type, rows, cols);
            }
        }
        expectShape(t, rows, cols);
        if (!t.type().readsAsFloats()) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + name + "' holds " + t.type().name() + " and no " + QuantState.key(QuantType.NF4)
                            + " lies beside it; expected floating point or bitsandbytes 4-bit");
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
        files.readFloats(t, (long) row * cols, rows * cols, dst, 0);
        if (dtype == DType.BF16) {
            for (int i = 0; i < rows * cols; i++) {
                dst[i] = FloatFormats.bf16ToFloat(FloatFormats.floatToBf16(dst[i]));
            }
        } else if (dtype == DType.F16) {
            for (int i = 0; i < rows * cols; i++) {
                dst[i] = FloatFormats.f16ToFloat(FloatFormats.floatToF16(dst[i]));
            }
        }
    }

    private static int rowsPerChunk(int cols) {
        // 4096 rows hold whole blocks of every size, whatever the row length
        int unit = 4096 / Integer.lowestOneBit(Math.min(4096, Integer.lowestOneBit(cols)));
        return Math.max(unit, CHUNK / cols / unit * unit);
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

    /** Each row by its largest magnitude; read and quantized while it is uploaded. */
    @Override
    public Prepared readInt8(String name, int rows, int cols) {
        StoredTensor t = files.get(name);
        expectShape(t, rows, cols);
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
        long n = (long) rows * cols;
        byte[] packed = new byte[arrayLength(t, BlockQuantizer.packedBytes(n))];
        float[] absmax = new float[arrayLength(t, BlockQuantizer.blocks(n, q.blockSize()))];
        int step = rowsPerChunk(cols);
        float[] floats = new float[Math.multiplyExact(Math.min(step, rows), cols)];
        for (int r = 0; r < rows; r += step) {
            int count = Math.min(step, rows - r) * cols;
            readRows(t, r, count / cols, cols, floats);
            long first = (long) r * cols;
            BlockQuantizer.quantize(q.type(), q.blockSize(), floats, 0, count, packed, (int) (first / 2), absmax, (int)
                    (first / q.blockSize()));
        }
        DoubleQuant.@Nullable Nested nested = q.doubleQuant() ? DoubleQuant.quantize(absmax) : null;
        return (device, scope) -> new Weight.Quantized(
                q.type(),
                q.blockSize(),
                rows,
                cols,
                bytes(device, scope, packed),
                nested == null
                        ? new Weight.AbsMax.Plain(floats(device, scope, absmax))
                        : nested(
                                device,
                                scope,
                                nested.codes(),
                                nested.absmax2(),
                                DynamicMap.signed(),
                                DoubleQuant.BLOCK_SIZE,
                                nested.offset()));
    }

    private Prepared readQuantized(StoredTensor t, QuantType type, int rows, int cols) {
        String name = t.name();
        QuantState state;
        try {
            state = QuantState.parse(files.readBytes(files.get(name + "." + QuantState.key(type))));
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(t.file(), "tensor '" + name + "': " + e.getMessage(), e);
        }
        if (state.type() != type
                || state.shape().get(0) != rows
                || state.shape().get(1) != cols) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + name + "': quant_state says " + state.type().bnbName() + " " + state.shape()
                            + ", expected " + type.bnbName() + " [" + rows + ", " + cols + "]");
        }
        long n = (long) rows * cols;
        byte[] packed = raw(name, BlockQuantizer.packedBytes(n));
        long blocks = BlockQuantizer.blocks(n, state.blockSize());
        QuantState.Nested second = state.nested();
        requireCodebook(name, type);
        if (second == null) {
            float[] absmax = values(name + ".absmax", blocks);
            return (device, scope) -> new Weight.Quantized(
                    type,
                    state.blockSize(),
                    rows,
                    cols,
                    bytes(device, scope, packed),
                    new Weight.AbsMax.Plain(floats(device, scope, absmax)));
        }
        byte[] codes = raw(name + ".absmax", blocks);
        float[] absmax2 = values(name + ".nested_absmax", (blocks + second.blockSize() - 1) / second.blockSize());
        float[] map = values(name + ".nested_quant_map", DynamicMap.SIZE);
        return (device, scope) -> new Weight.Quantized(
                type,
                state.blockSize(),
                rows,
                cols,
                bytes(device, scope, packed),
                nested(device, scope, codes, absmax2, map, second.blockSize(), second.offset()));
    }

    /** The devices have the two standard codebooks; a checkpoint with another one would decode to nonsense. */
    private void requireCodebook(String name, QuantType type) {
        float[] expected = type.codebook().values();
        float[] found = values(name + ".quant_map", expected.length);
        for (int i = 0; i < expected.length; i++) {
            if (expected[i] != found[i]) {
                throw new ModelFormatException(
                        files.location(),
                        "tensor '" + name + ".quant_map': value " + i + " is " + found[i] + ", " + type.bnbName()
                                + " has " + expected[i]);
            }
        }
    }

    private byte[] raw(String name, long bytes) {
        StoredTensor t = files.get(name);
        if (t.byteLength() != bytes || t.type().dtype().filter(DType.U8::equals).isEmpty()) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + name + "' must hold " + bytes + " bytes (U8), found "
                            + t.type().name() + " " + t.shape());
        }
        return files.readBytes(t);
    }

    private float[] values(String name, long count) {
        StoredTensor t = files.get(name);
        if (t.elements() != count || !t.type().readsAsFloats()) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + name + "' must hold " + count + " floats, found "
                            + t.type().name() + " " + t.shape());
        }
        float[] values = new float[arrayLength(t, count)];
        files.readFloats(t, 0, values.length, values, 0);
        return values;
    }

    private static int arrayLength(StoredTensor t, long n) {
        if (n > Integer.MAX_VALUE - 8) {
            throw new ModelFormatException(
                    t.file(),
                    "tensor '" + t.name() + "' " + t.shape() + " is too large: one matrix may have 2^32 elements");
        }
        return (int) n;
    }

    @Override
    public Tensor vector(Device device, Scope scope, String name, int length, float plus) {
        expectShape(files.get(name), length);
        float[] values = new float[length];
        readRows(files.get(name), 0, 1, length, values);
        for (int i = 0; i < length; i++) {
            values[i] += plus;
        }
        return floats(device, scope, values, device.floatType());
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
