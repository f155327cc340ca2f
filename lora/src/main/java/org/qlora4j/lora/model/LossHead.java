package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Final norm, output layer and cross-entropy, for the rows that carry a label only, in chunks of rows: the logits of
 * all tokens never exist at once (512 × 49,152 fp32 would be 100 MB, for Qwen3 311 MB).
 */
final class LossHead {
    /**
     * Most logits of one chunk in bytes. The output layer is decoded for each chunk, so few rows cost speed: with 16
     * MiB (85 rows of SmolLM2) its products ran at 140 GFLOP/s, with 32 MiB at 180.
     */
    private static final long CHUNK_BYTES = 32L << 20;

    private final Device device;
    private final Norm norm;
    private final double softcap;
    final Linear output;

    /** @param softcap on the logits, 0 for none */
    LossHead(Device device, Norm norm, double softcap, Linear output) {
        this.device = device;
        this.norm = norm;
        this.softcap = softcap;
        this.output = output;
    }

    /**
     * Loss of each labelled row and, if asked, the gradient.
     *
     * @param dHidden result [N, C]: gradient of {@code gradientScale · Σ losses}; null in evaluation
     * @param hidden [N, C], the last layer's output
     * @param rows I32 [1, L]: the rows that carry a label
     * @param labels I32 [1, L]
     */
    TokenLosses losses(
            @Nullable Tensor dHidden,
            Tensor hidden,
            Tensor rows,
            Tensor labels,
            double gradientScale,
            double labelSmoothing,
            Step step) {
        var ops = step.ops();
        int count = rows.cols();
        int width = hidden.cols();
        Tensor x = step.newTensor(count, width);
        ops.gatherRows(x, hidden, rows);
        Norm.Saved normed = norm.forward(x, step);

        Tensor rowLosses = step.newPrecise(1, count);
        Tensor correct = step.newPrecise(1, count);
        Tensor dh = dHidden == null ? null : step.newTensor(count, width);
        long rowBytes = (long) output.out() * device.floatType().bytes();
        int mostRows = (int) Math.max(1, Math.min(count, CHUNK_BYTES / rowBytes));
        // equal chunks: a last one of two rows would cost nearly as much as a full one
        int chunks = (count + mostRows - 1) / mostRows;
        int chunkRows = (count + chunks - 1) / chunks;
        for (int first = 0; first < count; first += chunkRows) {
            int n = Math.min(chunkRows, count - first);
            try (Scope scope = device.newScope()) {
                Step chunk = step.in(scope);
                Tensor logits = chunk.newTensor(n, output.out());
                Tensor part = normed.y().rows(first, n);
                Linear.Saved saved = output.forward(logits, part, 0, chunk);
                cap(logits, chunk);
                Tensor gradient = gradientOf(logits, dh != null, chunk);
                ops.crossEntropy(
                        rowLosses.cols(first, n),
                        correct.cols(first, n),
                        gradient,
                        labels.cols(first, n),
                        dh == null ? 0 : gradientScale,
                        labelSmoothing);
                if (dh != null) {
                    if (softcap != 0) {
                        ops.softcapBackward(gradient, gradient, logits, softcap);
                    }
                    output.backward(dh.rows(first, n), 0, gradient, part, saved, chunk);
                }
            }
        }
        if (dHidden != null && dh != null) {
            Tensor dx = step.newTensor(count, width);
            norm.backward(dx, 0, dh, normed, step);
            ops.scatterRows(dHidden, dx, rows);
        }
        return TokenLosses.download(device, rowLosses, correct);
    }

    private void cap(Tensor logits, Step step) {
        if (softcap != 0) {
            step.ops().softcap(logits, logits, softcap);
        }
    }

    /** What crossEntropy turns into the gradient: the logits themselves, or a copy where the softcap's needs them. */
    private Tensor gradientOf(Tensor logits, boolean training, Step step) {
        if (!training || softcap == 0) {
            return logits;
        }
        Tensor copy = step.newTensor(logits.rows(), logits.cols());
        step.ops().copy(copy, logits);
        return copy;
    }

    /** Logits of all rows of hidden. @param logits result [N, V] */
    void logits(Tensor logits, Tensor hidden, Step step) {
        output.forward(logits, norm.forward(hidden, step).y(), 0, step);
        cap(logits, step);
    }
}
