package org.qlora4j.lora.adapter;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LowRank;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * A tensor of adapter_model.safetensors and where its values are.
 *
 * @param get the values to write
 * @param set takes values that were read
 * @param optional whether it may be missing from a file
 */
record FileTensor(TensorSpec spec, Supplier<float[]> get, Consumer<float[]> set, boolean optional) {

    /** All of an adapter, by name. Of PiSSA and OLoRA: the trained pair and behind it what was taken off the base. */
    static Map<String, FileTensor> of(LoraAdapter adapter) {
        Map<String, FileTensor> all = new LinkedHashMap<>();
        Map<String, Linear> pairs = new LinkedHashMap<>();
        for (Linear linear : adapter.parts().lora()) {
            pairs.put(AdapterParts.fileName(linear.name(), AdapterParts.LORA_A), linear);
            pairs.put(AdapterParts.fileName(linear.name(), AdapterParts.LORA_B), linear);
        }
        adapter.byName().forEach((name, p) -> {
            Linear linear = pairs.get(name);
            LowRank start = linear == null ? null : adapter.takenOff(linear);
            all.put(name, start == null ? plain(adapter, p) : doubled(adapter, p, start));
        });
        if (adapter.parts().savedEmbedding() && adapter.parts().tied()) {
            // PEFT writes the tied output layer as well
            String output = AdapterParts.fileName(adapter.model().outputLayer().name(), ".weight");
            Parameter embedding = adapter.find(adapter.model().embedding().name(), ".weight");
            if (embedding != null) {
                all.put(output, copyOf(output, adapter, embedding));
            }
        }
        return all;
    }

    private static FileTensor plain(LoraAdapter adapter, Parameter p) {
        Device device = adapter.model().device();
        int rows = p.value().rows();
        int cols = p.value().cols();
        if (p.name().endsWith(AdapterParts.EMBEDDING_A)) {
            return new FileTensor(
                    TensorSpec.of(p.name(), DType.F32, cols, rows),
                    () -> transposed(adapter.parameters().download(p), rows, cols),
                    values -> device.upload(p.value(), transposed(values, cols, rows), 0),
                    false);
        }
        boolean vector = p.name().endsWith(AdapterParts.MAGNITUDE) || p.name().endsWith(".bias");
        return new FileTensor(
                vector ? TensorSpec.of(p.name(), DType.F32, cols) : TensorSpec.of(p.name(), DType.F32, rows, cols),
                () -> adapter.parameters().download(p),
                values -> device.upload(p.value(), values, 0),
                false);
    }

    private static FileTensor copyOf(String name, LoraAdapter adapter, Parameter p) {
        return new FileTensor(
                TensorSpec.of(name, DType.F32, p.value().rows(), p.value().cols()),
                () -> adapter.parameters().download(p),
                values -> {},
                true);
    }

    static float[] transposed(float[] m, int rows, int cols) {
        float[] t = new float[m.length];
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < cols; c++) {
                t[c * rows + r] = m[r * cols + c];
            }
        }
        return t;
    }

    /** {@code [A; A₀]} or {@code [B, −B₀]}: their product is B·A − B₀·A₀. */
    private static FileTensor doubled(LoraAdapter adapter, Parameter p, LowRank start) {
        Device device = adapter.model().device();
        int rows = p.value().rows();
        int cols = p.value().cols();
        if (p.name().endsWith(AdapterParts.LORA_A)) {
            return new FileTensor(
                    TensorSpec.of(p.name(), DType.F32, 2L * rows, cols),
                    () -> {
                        float[] both = Arrays.copyOf(adapter.parameters().download(p), 2 * rows * cols);
                        device.download(start.a(), both, rows * cols);
                        return both;
                    },
                    both -> {
                        device.upload(p.value(), both, 0);
                        device.upload(start.a(), both, rows * cols);
                    },
                    false);
        }
        return new FileTensor(
                TensorSpec.of(p.name(), DType.F32, rows, 2L * cols),
                () -> {
                    float[] both = new float[2 * rows * cols];
                    copyColumns(adapter.parameters().download(p), 0, cols, both, 0, 2 * cols, cols, 1);
                    copyColumns(download(device, start.b()), 0, cols, both, cols, 2 * cols, cols, -1);
                    return both;
                },
                both -> {
                    float[] half = new float[rows * cols];
                    copyColumns(both, 0, 2 * cols, half, 0, cols, cols, 1);
                    device.upload(p.value(), half, 0);
                    copyColumns(both, cols, 2 * cols, half, 0, cols, cols, -1);
                    device.upload(start.b(), half, 0);
                },
                false);
    }

    private static float[] download(Device device, Tensor t) {
        float[] values = new float[Math.toIntExact(t.numel())];
        device.download(t, values, 0);
        return values;
    }

    private static void copyColumns(
            float[] from, int fromCol, int fromStride, float[] to, int toCol, int toStride, int cols, float sign) {
        for (int r = 0; r < from.length / fromStride; r++) {
            for (int c = 0; c < cols; c++) {
                to[r * toStride + toCol + c] = sign * from[r * fromStride + fromCol + c];
            }
        }
    }
}
