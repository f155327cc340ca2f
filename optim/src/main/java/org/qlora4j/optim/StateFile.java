package org.qlora4j.optim;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.StorageType;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * {@code optimizer.safetensors}: the state's tensors, with the optimizer's kind, its steps and a digest of the
 * parameters' names in the order of the state as metadata. Read as a file from a stranger: names, types, shapes and
 * numbers are checked. State goes through memory in pieces of 1 MiB.
 */
final class StateFile {
    private static final int PIECE_BYTES = 1 << 20;

    private StateFile() {}

    /** All parts of a tensor, in row order, each one row or less and at most 1 MiB. */
    static List<Tensor> pieces(Tensor t) {
        int step = PIECE_BYTES / t.dtype().bytes();
        List<Tensor> pieces = new ArrayList<>();
        for (int row = 0; row < t.rows(); row++) {
            for (int col = 0; col < t.cols(); col += step) {
                pieces.add(t.rows(row, 1).cols(col, Math.min(step, t.cols() - col)));
            }
        }
        return pieces;
    }

    static byte[] bytes(Tensor piece) {
        return new byte[(int) piece.numel() * piece.dtype().bytes()];
    }

    static void write(
            Device device, Path file, String description, String order, long steps, Map<String, Tensor> parts) {
        List<TensorSpec> specs = new ArrayList<>();
        parts.forEach((name, t) -> specs.add(TensorSpec.of(name, t.dtype(), t.rows(), t.cols())));
        Map<String, String> metadata =
                Map.of("format", "pt", "optimizer", description, "parameters", order, "steps", String.valueOf(steps));
        SafetensorsWriter.write(file, metadata, specs, (spec, sink) -> {
            for (Tensor piece : pieces(Objects.requireNonNull(parts.get(spec.name())))) {
                byte[] bytes = bytes(piece);
                device.download(piece, bytes, 0);
                sink.write(bytes);
            }
        });
    }

    /** @return the steps taken */
    static long read(Device device, Path file, String description, String order, Map<String, Tensor> parts) {
        try (Safetensors stored = Safetensors.open(file)) {
            String found = stored.metadata().get("optimizer");
            if (!description.equals(found)) {
                throw new ModelFormatException(
                        file,
                        "holds the state of optimizer '" + found + "', this run has '" + description
                                + "'; resume with the same optim, or only with the model (resume_only_model)");
            }
            if (!order.equals(stored.metadata().get("parameters"))) {
                throw new ModelFormatException(
                        file,
                        "holds the state of other trained matrices, or of the same in another order, as an older version"
                                + " of qlora4j has them; resume only with the model (resume_only_model)");
            }
            long steps = steps(file, stored.metadata().get("steps"));
            parts.forEach((name, t) -> check(file, stored, name, t));
            parts.forEach((name, t) -> readPart(device, stored, stored.get(name), t));
            return steps;
        }
    }

    private static long steps(Path file, @Nullable String text) {
        if (text == null || !text.matches("\\d{1,12}")) {
            throw new ModelFormatException(file, "metadata 'steps' must be a number of steps, found '" + text + "'");
        }
        return Long.parseLong(text);
    }

    private static void check(Path file, Safetensors stored, String name, Tensor t) {
        StoredTensor found = stored.get(name);
        List<Long> shape = List.of((long) t.rows(), (long) t.cols());
        if (!found.type().equals(new StorageType.Plain(t.dtype()))
                || !found.shape().equals(shape)) {
            throw new ModelFormatException(
                    file,
                    "tensor '" + name + "' is " + found.type().name() + " " + found.shape() + ", this run needs "
                            + t.dtype() + " " + shape + "; it was made with another LoRA configuration or device");
        }
    }

    private static void readPart(Device device, Safetensors file, StoredTensor stored, Tensor t) {
        boolean notNegative =
                stored.name().startsWith("absmax") || stored.name().equals("state2");
        long at = 0;
        for (Tensor piece : pieces(t)) {
            byte[] bytes = bytes(piece);
            file.readBytes(stored, at, MemorySegment.ofArray(bytes));
            checkNumbers(file, stored, bytes, piece.dtype(), notNegative);
            device.upload(piece, bytes, 0);
            at += bytes.length;
        }
    }

    /** Averages are finite, averages of squares and scales not negative either. */
    private static void checkNumbers(
            Safetensors file, StoredTensor stored, byte[] bytes, DType type, boolean notNegative) {
        if (!type.isFloat()) {
            return;
        }
        MemorySegment segment = MemorySegment.ofArray(bytes);
        for (int i = 0; i < bytes.length; i += type.bytes()) {
            double value =
                    type == DType.F64 ? segment.get(JAVA_DOUBLE_UNALIGNED, i) : segment.get(JAVA_FLOAT_UNALIGNED, i);
            if (!Double.isFinite(value) || notNegative && value < 0) {
                throw new ModelFormatException(
                        file.location(),
                        "tensor '" + stored.name() + "' holds " + value + ", which no optimizer leaves");
            }
        }
    }
}
