package org.qlora4j.samples.bench;

import java.nio.file.Path;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** Random tensors of any size on a device: a piece of a million values, uploaded as often as it takes. */
final class GpuTensors implements AutoCloseable {
    private static final int PIECE = 1 << 20;
    private static final int BLOCK = 64;
    private static final int NESTED_BLOCK = 256;

    final Device device;
    final Scope scope;
    private final float[] values = new float[PIECE];
    private final byte[] bytes = new byte[PIECE];
    private @Nullable Scope paged;

    GpuTensors(Device device, Scope scope) {
        this.device = device;
        this.scope = scope;
        SplittableRandom random = new SplittableRandom(1);
        random.nextBytes(bytes);
        for (int i = 0; i < PIECE; i++) {
            values[i] = (float) random.nextDouble() - 0.5f;
        }
    }

    /** Values from -0.5 to 0.5 in the device's type. */
    Tensor random(int rows, int cols) {
        return filled(scope.newTensor(rows, cols));
    }

    /** The same in fp32. */
    Tensor precise(int rows, int cols) {
        return filled(scope.newPrecise(rows, cols));
    }

    Tensor zeros(int rows, int cols) {
        Tensor t = scope.newTensor(rows, cols);
        device.ops().fill(t, 0);
        return t;
    }

    Tensor preciseZeros(int rows, int cols) {
        Tensor t = scope.newPrecise(rows, cols);
        device.ops().fill(t, 0);
        return t;
    }

    /** A weight whose codes are random: what it holds does not change its speed. */
    Weight.Quantized nf4(int rows, int cols, boolean nested) {
        int n = Math.multiplyExact(rows, cols);
        int blocks = (n + BLOCK - 1) / BLOCK;
        Tensor packed = filled(scope.newTensor(DType.U8, 1, n / 2));
        Weight.AbsMax absmax;
        if (nested) {
            Tensor map = scope.newTensor(DType.F32, 1, DynamicMap.SIZE);
            device.upload(map, DynamicMap.signed(), 0);
            absmax = new Weight.AbsMax.Nested(
                    filled(scope.newTensor(DType.U8, 1, blocks)),
                    precise(1, (blocks + NESTED_BLOCK - 1) / NESTED_BLOCK),
                    map,
                    NESTED_BLOCK,
                    0.5f);
        } else {
            absmax = new Weight.AbsMax.Plain(precise(1, blocks));
        }
        return new Weight.Quantized(QuantType.NF4, BLOCK, rows, cols, packed, absmax);
    }

    /** Where an optimizer's state lies. */
    @SuppressWarnings("MustBeClosedChecker") // closed with this
    Scope stateScope(boolean inPages) {
        if (!inPages) {
            return scope;
        }
        if (paged == null) {
            paged = device.newPagedScope(Path.of(""));
        }
        return paged;
    }

    @Override
    public void close() {
        if (paged != null) {
            paged.close();
        }
    }

    /** Codes of an optimizer's state. */
    Tensor clear(Tensor t) {
        byte[] zeros = new byte[PIECE];
        inPieces(t, piece -> device.upload(piece, zeros, 0));
        return t;
    }

    private Tensor filled(Tensor t) {
        inPieces(t, piece -> {
            if (t.dtype() == DType.U8) {
                device.upload(piece, bytes, 0);
            } else {
                device.upload(piece, values, 0);
            }
        });
        return t;
    }

    private static void inPieces(Tensor t, Consumer<Tensor> work) {
        int n = Math.toIntExact(t.numel());
        Tensor flat = t.reshape(1, n);
        for (int first = 0; first < n; first += PIECE) {
            work.accept(flat.cols(first, Math.min(PIECE, n - first)));
        }
    }
}
