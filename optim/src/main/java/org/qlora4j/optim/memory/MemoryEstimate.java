package org.qlora4j.optim.memory;

import com.google.errorprone.annotations.MustBeClosed;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.qlora4j.lora.adapter.InitWeights;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.DryDevice;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.weight.Weight;
import org.qlora4j.optim.Optimizer;

/**
 * The memory of a training run, item by item. It is counted, not guessed: model, adapter, optimizer and one pass of the
 * largest batch run on a {@link DryDevice}, which allocates by the rules of the real one and computes nothing.
 *
 * @param items in bytes; together what the process will hold at its peak
 * @param parameters of the model and its adapter
 */
public record MemoryEstimate(List<Item> items, Parameters parameters) {
    /**
     * Java's own memory, measured: code, classes, libraries and the heap of a run of 135 million parameters. The heap
     * holds a handful of matrices while a model loads, and little after that.
     */
    private static final long RUNTIME_BYTES = 300L << 20;

    /** What a process holds of a GPU before its first tensor: some 0.5 GB on recent cards. */
    public static final long CUDA_CONTEXT_BYTES = 600L << 20;

    private static final String RUNTIME = "runtime";

    /** Part of the whole. @param name a word for programs @param explanation for people */
    public record Item(String name, String explanation, long bytes) {}

    /**
     * Counts.
     *
     * @param all of the base
     * @param quantized those of them in quantized layers
     * @param quantizedBytes what these take
     * @param trained of the adapter
     */
    public record Parameters(long all, long quantized, long quantizedBytes, long trained) {
        /** Bits of one quantized weight, its share of the scales included; NaN if none is quantized. */
        public double bitsPerQuantizedWeight() {
            return quantized == 0 ? Double.NaN : 8.0 * quantizedBytes / quantized;
        }
    }

    /** Counts a run's memory. */
    public static MemoryEstimate of(MemorySettings run) {
        ModelLoader.Options options = new ModelLoader.Options(run.dtype(), run.quantization(), 1, run.int8());
        try (DryDevice device = dry(run);
                Transformer model = ModelLoader.withoutWeights(run.model(), device, options)) {
            long loaded = inScopes(device);
            // start values do not change sizes, and some are computed from weights that are not there
            LoraConfig lora =
                    run.lora().toBuilder().initWeights(InitWeights.TRUE).build();
            try (LoraAdapter adapter = LoraAdapter.attach(model, lora, 0)) {
                long attached = inScopes(device);
                try (Optimizer optimizer = new Optimizer(device, adapter.parameters(), run.optimizer(), Path.of(""));
                        Scope sums = device.newScope()) {
                    optimizer.step(0);
                    long paged = device.bytesByOwner().getOrDefault(DryDevice.PAGED, 0L);
                    long state = inScopes(device) - attached - paged;
                    for (int i = 0; i < run.keptSums(); i++) {
                        sums.newPrecise(1, adapter.parameters().gradients().cols());
                    }
                    long kept = inScopes(device) - attached - paged - state;
                    model.setCheckpointedLayers(run.checkpointedLayers());
                    Map<String, Long> before = device.bytesByOwner();
                    run.passes().forEach(pass -> model.gradients(pass, 1, 0));
                    run.evaluation().forEach(model::losses);
                    return count(
                            model,
                            adapter,
                            device,
                            before,
                            loaded,
                            attached - loaded,
                            state,
                            paged,
                            runtime(run),
                            kept);
                }
            }
        }
    }

    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker")
    private static DryDevice dry(MemorySettings run) {
        return Devices.isCuda(run.device()) ? Devices.dryCuda() : Devices.dryCpu(run.threads(), run.computeType());
    }

    private static long inScopes(DryDevice device) {
        return device.bytesByOwner().values().stream()
                .mapToLong(Long::longValue)
                .sum();
    }

    private static MemoryEstimate count(
            Transformer model,
            LoraAdapter adapter,
            DryDevice device,
            Map<String, Long> before,
            long loaded,
            long adapterBytes,
            long state,
            long paged,
            Item runtime,
            long kept) {
        long quantizedBytes = 0;
        long quantized = 0;
        long dense = model.embedding().frozen().bytes();
        long parameters = numel(model.embedding().frozen());
        for (Linear linear : model.linears()) {
            Weight w = linear.frozen();
            if (w instanceof Weight.Quantized || w instanceof Weight.Int8 && linear != model.outputLayer()) {
                quantizedBytes += w.bytes();
                quantized += numel(w);
            } else if (w != model.embedding().frozen()) {
                dense += w.bytes();
            }
            parameters += w == model.embedding().frozen() ? 0 : numel(w);
        }
        long inputs = grown(device, before, "Transformer");
        long head = grown(device, before, "LossHead");
        long products = grown(device, before, DryDevice.PRODUCTS);
        long attention = grown(device, before, DryDevice.ATTENTION);
        long layers = device.peakBytes() - loaded - adapterBytes - state - kept - inputs - head - products - attention;
        List<Item> items = new ArrayList<>();
        items.add(new Item("quantized_linears", "quantized linear layers, with their scales", quantizedBytes));
        items.add(new Item("embeddings_and_head", "embedding, output layer and others not quantized", dense));
        items.add(new Item("norms_and_tables", "norms, biases, codebooks", loaded - quantizedBytes - dense));
        items.add(new Item("adapters", "LoRA's A and B in fp32", adapterBytes / 2));
        items.add(new Item("gradients", "of A and B", adapterBytes - adapterBytes / 2));
        if (kept > 0) {
            items.add(
                    new Item("gradient_sums", "of passes that are added up by a tree (not with reduction fast)", kept));
        }
        items.add(new Item("optimizer", "its state", state));
        if (paged > 0) {
            items.add(new Item("optimizer_paged", "its state, which the system may move to disk", paged));
        }
        items.add(new Item("checkpoints", "inputs of layers, gradient", inputs));
        items.add(new Item("activations", "of the layers that are worked on or kept", layers));
        items.add(new Item("logits_chunk", "logits of one chunk of labels, final norm", head));
        items.add(new Item("dequantization_buffer", "weights decoded for a product", products));
        items.add(new Item("attention", "scores of one block of queries", attention));
        items.add(runtime);
        return new MemoryEstimate(
                List.copyOf(items),
                new Parameters(
                        parameters,
                        quantized,
                        quantizedBytes,
                        adapter.parameters().count()));
    }

    private static Item runtime(MemorySettings run) {
        return Devices.isCuda(run.device())
                ? new Item(RUNTIME, "CUDA's context, libraries and kernels, cuBLAS's 32 MiB", CUDA_CONTEXT_BYTES)
                : new Item(RUNTIME, "Java, its heap, libraries, tokenizer", RUNTIME_BYTES);
    }

    private static long numel(Weight w) {
        return (long) w.rows() * w.cols();
    }

    /** What a class held at most during the pass, beyond what it held before. */
    private static long grown(DryDevice device, Map<String, Long> before, String owner) {
        return device.peakBytesByOwner().getOrDefault(owner, 0L) - before.getOrDefault(owner, 0L);
    }

    /** Bytes of one item. */
    public long bytes(String name) {
        return items.stream()
                .filter(i -> i.name.equals(name))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("no item " + name))
                .bytes;
    }

    /** Everything: the process. */
    public long totalBytes() {
        return items.stream().mapToLong(Item::bytes).sum();
    }

    /** What {@link org.qlora4j.nf4.device.Device#peakBytes} will say: all but Java's memory and paged state. */
    public long deviceBytes() {
        long paged = items.stream()
                .filter(i -> i.name.equals("optimizer_paged"))
                .mapToLong(Item::bytes)
                .sum();
        return totalBytes() - bytes(RUNTIME) - paged;
    }

    /** Base model alone. */
    public long baseBytes() {
        return bytes("quantized_linears") + bytes("embeddings_and_head") + bytes("norms_and_tables");
    }
}
