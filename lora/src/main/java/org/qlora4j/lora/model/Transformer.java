package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * A decoder-only language model with a frozen base; LoRA is attached to its {@link #linears()}.
 *
 * <p>Owns its weights: close frees them. One thread at a time, the device's.
 */
public final class Transformer implements AutoCloseable {
    /** Most tokens of a pass over cached sequences, so that a long prompt takes no more memory than a short one. */
    private static final int PASS_TOKENS = 512;

    private final ModelConfig config;
    private final Device device;
    private final Scope weights;
    private final Embedding embedding;
    private final List<Layer> layers;
    private final LossHead head;
    private int checkpointedLayers;

    Transformer(
            ModelConfig config, Device device, Scope weights, Embedding embedding, List<Layer> layers, LossHead head) {
        this.config = config;
        this.device = device;
        this.weights = weights;
        this.embedding = embedding;
        this.layers = List.copyOf(layers);
        this.head = head;
    }

    public ModelConfig config() {
        return config;
    }

    public Device device() {
        return device;
    }

    /** The token embedding. */
    public Embedding embedding() {
        return embedding;
    }

    /** All linear layers, in the order of a forward pass, the output layer last. */
    public List<Linear> linears() {
        List<Linear> all = new ArrayList<>();
        layers.forEach(layer -> all.addAll(layer.linears()));
        all.add(head.output);
        return all;
    }

    /** The output layer, {@code lm_head}. */
    public Linear outputLayer() {
        return head.output;
    }

    /** True if an adapter is attached. */
    public boolean hasAdapter() {
        return embedding.isTrained() || linears().stream().anyMatch(Linear::isTrained);
    }

    /** Whether backward runs every layer again: {@link #setCheckpointedLayers} of all layers, or of none. */
    public void setGradientCheckpointing(boolean on) {
        setCheckpointedLayers(on ? layers.size() : 0);
    }

    /**
     * How many layers backward runs again from their input instead of keeping their activations; the rest keep theirs.
     * Results are the same bits. Counted from the lowest trained layer: nothing below it is kept in any case.
     *
     * <p>A layer that is run again costs a forward pass without its last product (a third more work if all are) and
     * gives back its activations less its input, so each is worth the same, and any number of them may be chosen. They
     * are the lowest ones because backward reaches those last, when what the others kept is free again: with every k-th
     * layer, activations of one layer more would be held at the peak. Segments of k layers, run again from one kept
     * input, would save k inputs and hold k layers' activations, which are more than ten times as large, and run all
     * layers again. Megatron-LM's {@code recompute_num_layers} with the method {@code block} means the same.
     */
    public void setCheckpointedLayers(int count) {
        if (count < 0 || count > layers.size()) {
            throw new IllegalArgumentException("the model has " + layers.size()
                    + " layers; so many can be run again in backward, or fewer, not " + count);
        }
        checkpointedLayers = count;
    }

    /**
     * Forward and backward: adds {@code gradientScale · d(Σ losses)} to the gradients of all trained parameters.
     *
     * @param batch at least one label
     */
    public TokenLosses gradients(Batch batch, TrainingPass pass) {
        checkBatch(batch);
        updateLinears();
        int lowest = lowestTrainedLayer();
        int firstKept = Math.min(layers.size(), lowest + checkpointedLayers);
        try (Scope scope = device.newScope()) {
            Step step = new Step(device.ops(), scope, true, pass.seed());
            Sequences sequences = Sequences.whole(device, scope, batch.offsets());
            List<Tensor> inputs = new ArrayList<>();
            Tensor x = embed(batch.ids(), step);
            if (pass.neftuneNoiseAlpha() > 0) {
                EmbeddingNoise.add(x, batch.offsets(), pass.neftuneNoiseAlpha(), device, step);
            }
            for (int i = 0; i < firstKept; i++) {
                Tensor y = step.newTensor(x.rows(), x.cols());
                inputs.add(x);
                try (Scope temporary = device.newScope()) {
                    layers.get(i).forward(y, x, sequences, null, step.in(temporary));
                }
                x = y;
            }
            Tensor d = lowest < layers.size() ? step.newTensor(x.rows(), x.cols()) : null;
            TokenLosses losses = keptLayers(d, x, firstKept, lowest, sequences, batch, pass, step);
            for (int i = firstKept - 1; d != null && i >= lowest; i--) {
                try (Scope temporary = device.newScope()) {
                    Step inner = step.in(temporary);
                    Layer.Saved saved = layers.get(i).forward(null, inputs.get(i), sequences, null, inner);
                    layers.get(i).backward(d, needsInput(i, lowest), saved, sequences, inner);
                }
            }
            if (d != null && embedding.isTrained()) {
                embedding.backward(d, batch.ids(), device, step);
            }
            return losses;
        }
    }

    /**
     * Forward and backward of the layers that keep their activations, and of the head between.
     *
     * @param d result [N, C]: gradient of x; null if no layer is trained
     * @param x [N, C]: input of the first of them
     */
    private TokenLosses keptLayers(
            @Nullable Tensor d,
            Tensor x,
            int first,
            int lowest,
            Sequences sequences,
            Batch batch,
            TrainingPass pass,
            Step step) {
        try (Scope scope = device.newScope()) {
            Step keeping = step.in(scope);
            List<Layer.Saved> saved = new ArrayList<>();
            Tensor hidden = x;
            for (int i = first; i < layers.size(); i++) {
                Tensor y = keeping.newTensor(x.rows(), x.cols());
                saved.add(layers.get(i).forward(y, hidden, sequences, null, keeping));
                hidden = y;
            }
            TokenLosses losses;
            try (Scope temporary = device.newScope()) {
                losses = lossesOf(d, hidden, batch, pass.gradientScale(), pass.labelSmoothing(), step.in(temporary));
            }
            for (int i = layers.size() - 1; d != null && i >= first; i--) {
                try (Scope temporary = device.newScope()) {
                    layers.get(i)
                            .backward(d, needsInput(i, lowest), saved.get(i - first), sequences, step.in(temporary));
                }
            }
            return losses;
        }
    }

    private boolean needsInput(int layer, int lowest) {
        return layer > lowest || embedding.isTrained();
    }

    /** As {@link #gradients(Batch, TrainingPass)} without smoothing and noise; the loss of each label. */
    public double[] gradients(Batch batch, double gradientScale, long seed) {
        return gradients(batch, new TrainingPass(gradientScale, seed)).losses();
    }

    /** Evaluation: dropout, smoothing and noise are off, and no gradient changes. */
    public TokenLosses evaluate(Batch batch) {
        checkBatch(batch);
        updateLinears();
        try (Scope scope = device.newScope()) {
            Step step = new Step(device.ops(), scope, false, 0);
            Sequences sequences = Sequences.whole(device, scope, batch.offsets());
            Tensor hidden = forward(embed(batch.ids(), step), sequences, null, step);
            return lossesOf(null, hidden, batch, 0, 0, step);
        }
    }

    /** Evaluation: the loss of each label, in the batch's order. */
    public double[] losses(Batch batch) {
        return evaluate(batch).losses();
    }

    /**
     * The first part of an evaluation whose output is not finite, for messages; null if all are.
     *
     * @return {@code the embedding}, {@code layer 3} or {@code the output layer}
     */
    public @Nullable String firstNotFinite(Batch batch) {
        updateLinears();
        try (Scope scope = device.newScope()) {
            Step step = new Step(device.ops(), scope, false, 0);
            Sequences sequences = Sequences.whole(device, scope, batch.offsets());
            Tensor x = embed(batch.ids(), step);
            Tensor y = step.newTensor(x.rows(), x.cols());
            if (!Double.isFinite(device.ops().sumOfSquares(x))) {
                return "the embedding";
            }
            for (int i = 0; i < layers.size(); i++) {
                try (Scope temporary = device.newScope()) {
                    layers.get(i).forward(y, x, sequences, null, step.in(temporary));
                }
                if (!Double.isFinite(device.ops().sumOfSquares(y))) {
                    return "layer " + i;
                }
                device.ops().copy(x, y);
            }
            double loss = lossesOf(null, x, batch, 0, 0, step).sum();
            return Double.isFinite(loss) ? null : "the output layer";
        }
    }

    /**
     * Logits of every position of one sequence.
     *
     * @return [ids.length · V], row by row
     */
    public float[] logits(int[] ids) {
        updateLinears();
        try (Scope scope = device.newScope()) {
            Step step = new Step(device.ops(), scope, false, 0);
            Sequences sequences = Sequences.whole(device, scope, new int[] {0, ids.length});
            Tensor hidden = forward(embed(ids, step), sequences, null, step);
            Tensor logits = step.newTensor(hidden.rows(), head.output.out());
            head.logits(logits, hidden, step);
            float[] values = new float[Math.toIntExact(logits.numel())];
            device.download(logits, values, 0);
            return values;
        }
    }

    /**
     * A cache for {@link #nextLogits}, in memory of the given scope.
     *
     * @param capacity largest number of tokens of prompt and answer
     */
    public KvCache newCache(int capacity, Scope scope) {
        return new KvCache(config, capacity, scope);
    }

    /** What a cache takes of the device's memory. @param capacity as in {@link #newCache} */
    public long cacheBytes(int capacity) {
        return 2L
                * config.numLayers()
                * capacity
                * config.numKvHeads()
                * config.headDim()
                * device.floatType().bytes();
    }

    /**
     * Logits behind the last of the given tokens, which continue the cached sequence and are added to it.
     *
     * @param ids at least one token
     * @return [V]
     */
    public float[] nextLogits(int[] ids, KvCache cache) {
        return nextLogits(List.of(ids), List.of(cache))[0];
    }

    /**
     * As {@link #nextLogits(int[], KvCache)} for several sequences at once, so that weights are read once for all of
     * them: prompts and single tokens together, in passes of at most 512 tokens, however many there are. Products of
     * many rows may be summed in another order than those of few: the last digits of logits depend on what else is in
     * the pass, but for the reference device.
     *
     * @param ids at least one token for each sequence
     * @param caches of the sequences, no two the same
     * @return [V] for each
     */
    public float[][] nextLogits(List<int[]> ids, List<KvCache> caches) {
        if (CachedPass.accept(ids, caches, config)) {
            updateLinears();
        }
        float[][] logits = new float[ids.size()][];
        for (int done = 0; done < logits.length; ) {
            CachedPass pass = CachedPass.of(caches.subList(done, logits.length), PASS_TOKENS);
            nextLogits(pass, logits, done);
            done += pass.ends().length;
        }
        return logits;
    }

    /** @param logits takes those of the sequences that come to their end, from {@code at} on */
    private void nextLogits(CachedPass pass, float[][] logits, int at) {
        try (Scope scope = device.newScope()) {
            Step step = new Step(device.ops(), scope, false, 0);
            Tensor hidden = forward(embed(pass.ids(), step), pass.sequences(device, scope), pass, step);
            int count = pass.ends().length;
            if (count == 0) {
                return;
            }
            Tensor last = hidden;
            if (count < hidden.rows()) {
                last = step.newTensor(count, hidden.cols());
                step.ops().gatherRows(last, hidden, upload(pass.ends(), step));
            }
            Tensor found = step.newTensor(count, head.output.out());
            head.logits(found, last, step);
            for (int i = 0; i < count; i++) {
                logits[at + i] = new float[found.cols()];
                device.download(found.rows(i, 1), logits[at + i], 0);
            }
        }
    }

    /** Parameters may have changed since the last pass. */
    private void updateLinears() {
        for (Linear linear : linears()) {
            linear.update(device.ops());
        }
    }

    /** Layers in turn, each in a scope of its own, between two buffers. */
    private Tensor forward(Tensor x, Sequences sequences, @Nullable CachedPass cached, Step step) {
        Tensor y = step.newTensor(x.rows(), x.cols());
        for (int i = 0; i < layers.size(); i++) {
            try (Scope temporary = device.newScope()) {
                layers.get(i).forward(y, x, sequences, cached == null ? null : cached.layer(i), step.in(temporary));
            }
            Tensor swap = x;
            x = y;
            y = swap;
        }
        return x;
    }

    private TokenLosses lossesOf(
            @Nullable Tensor dHidden,
            Tensor hidden,
            Batch batch,
            double gradientScale,
            double labelSmoothing,
            Step step) {
        Tensor rows = upload(batch.labelRows(), step);
        Tensor labels = upload(batch.labels(), step);
        return head.losses(dHidden, hidden, rows, labels, gradientScale, labelSmoothing, step);
    }

    private Tensor embed(int[] ids, Step step) {
        Tensor x = step.newTensor(ids.length, config.hiddenSize());
        embedding.forward(x, ids, device, step);
        return x;
    }

    private Tensor upload(int[] values, Step step) {
        Tensor t = step.scope().newTensor(DType.I32, 1, values.length);
        device.upload(t, values, 0);
        return t;
    }

    private int lowestTrainedLayer() {
        if (embedding.isTrained()) {
            return 0;
        }
        for (int i = 0; i < layers.size(); i++) {
            if (layers.get(i).isTrained()) {
                return i;
            }
        }
        return layers.size();
    }

    private static void checkBatch(Batch batch) {
        if (batch.labelTokens() == 0) {
            throw new IllegalArgumentException("the batch has no label: nothing to compute a loss from");
        }
    }

    /** Frees the weights. */
    @Override
    public void close() {
        weights.close();
    }
}
