package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.BlockQuantizer;
import org.qlora4j.nf4.weight.DoubleQuant;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.Weight;

/** Weights of the right size and of no content, for devices that only count. */
record ShapesOnly(DType dtype) implements WeightReader {
    @Override
    public Prepared read(String name, int rows, int cols, @Nullable Quantization q) {
        return (device, scope) -> {
            if (q == null) {
                return new Weight.Dense(scope.newTensor(dtype, rows, cols));
            }
            long n = (long) rows * cols;
            Tensor packed = scope.newTensor(DType.U8, 1, (int) BlockQuantizer.packedBytes(n));
            int blocks = (int) BlockQuantizer.blocks(n, q.blockSize());
            return new Weight.Quantized(q.type(), q.blockSize(), rows, cols, packed, absmax(scope, q, blocks));
        };
    }

    @Override
    public Prepared readInt8(String name, int rows, int cols) {
        return (device, scope) ->
                new Weight.Int8(scope.newTensor(DType.I8, rows, cols), scope.newTensor(DType.F32, 1, rows));
    }

    private static Weight.AbsMax absmax(Scope scope, Quantization q, int blocks) {
        if (!q.doubleQuant()) {
            return new Weight.AbsMax.Plain(scope.newTensor(DType.F32, 1, blocks));
        }
        return new Weight.AbsMax.Nested(
                scope.newTensor(DType.U8, 1, blocks),
                scope.newTensor(DType.F32, 1, (int) BlockQuantizer.blocks(blocks, DoubleQuant.BLOCK_SIZE)),
                scope.newTensor(DType.F32, 1, DynamicMap.SIZE),
                DoubleQuant.BLOCK_SIZE,
                0);
    }

    @Override
    public Tensor vector(Device device, Scope scope, String name, int length, float plus) {
        return scope.newPrecise(1, length);
    }
}
