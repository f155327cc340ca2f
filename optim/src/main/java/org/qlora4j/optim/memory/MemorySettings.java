package org.qlora4j.optim.memory;

import java.util.Collections;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelConfig;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.optim.OptimizerConfig;

/**
 * What the memory of a training run depends on.
 *
 * @param model the base
 * @param dtype what its unquantized weights are kept in
 * @param quantization of its linear layers, null for none
 * @param int8 what is kept in 8 bits
 * @param lora which layers are trained, and at which rank
 * @param optimizer its rule and how its state lies
 * @param checkpointedLayers how many layers backward runs again, see
 *     {@link org.qlora4j.lora.model.Transformer#setCheckpointedLayers}
 * @param passes in the order in which they come; the memory kept for reuse depends on it. At least one
 * @param evaluation passes without gradients, behind the first ones
 * @param device {@code cpu} or the name of a GPU, which need not be in this machine
 * @param threads of the CPU
 * @param computeType what products with frozen weights are computed in
 * @param keptSums sums of gradients beside the one in progress, see {@link #keptSums(int)}
 */
public record MemorySettings(
        ModelConfig model,
        DType dtype,
        @Nullable Quantization quantization,
        ModelLoader.Int8 int8,
        LoraConfig lora,
        OptimizerConfig optimizer,
        int checkpointedLayers,
        List<Batch> passes,
        List<Batch> evaluation,
        String device,
        int threads,
        DType computeType,
        int keptSums) {

    public MemorySettings {
        passes = List.copyOf(passes);
        evaluation = List.copyOf(evaluation);
        if (passes.isEmpty()) {
            throw new IllegalArgumentException("an estimate needs at least one pass");
        }
    }

    /** The same run with other passes. */
    public MemorySettings withPasses(List<Batch> other) {
        return new MemorySettings(
                model,
                dtype,
                quantization,
                int8,
                lora,
                optimizer,
                checkpointedLayers,
                other,
                evaluation,
                device,
                threads,
                computeType,
                keptSums);
    }

    /** The same run with so many layers run again in backward. */
    public MemorySettings withCheckpointedLayers(int count) {
        return new MemorySettings(
                model,
                dtype,
                quantization,
                int8,
                lora,
                optimizer,
                count,
                passes,
                evaluation,
                device,
                threads,
                computeType,
                keptSums);
    }

    /** The same run with another quantization. */
    public MemorySettings withQuantization(Quantization other) {
        ModelLoader.Int8 linearsIn4 = new ModelLoader.Int8(false, int8.embeddings());
        return new MemorySettings(
                model,
                dtype,
                other,
                linearsIn4,
                lora,
                optimizer,
                checkpointedLayers,
                passes,
                evaluation,
                device,
                threads,
                computeType,
                keptSums);
    }

    /** The same run with another adapter. */
    public MemorySettings withLora(LoraConfig other) {
        return new MemorySettings(
                model,
                dtype,
                quantization,
                int8,
                other,
                optimizer,
                checkpointedLayers,
                passes,
                evaluation,
                device,
                threads,
                computeType,
                keptSums);
    }

    /** The same run with another optimizer. */
    public MemorySettings withOptimizer(OptimizerConfig other) {
        return new MemorySettings(
                model,
                dtype,
                quantization,
                int8,
                lora,
                other,
                checkpointedLayers,
                passes,
                evaluation,
                device,
                threads,
                computeType,
                keptSums);
    }

    /** What the first of all ranks keeps when it sums the gradients of so many passes of a step by a tree. */
    public static int keptSums(int passes) {
        return 32 - Integer.numberOfLeadingZeros(passes - 1);
    }

    /** A pass of rows of one length, every token a label: the most a run with {@code max_length} can meet. */
    public static Batch fullBatch(int rows, int length) {
        int[] ids = new int[length];
        return new Batch(Collections.nCopies(rows, new Batch.Row(ids, ids)));
    }
}
