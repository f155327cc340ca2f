package org.qlora4j.samples.bench;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.PrintStream;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.GeneratedTensors;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.optim.Optimizer;
import org.qlora4j.optim.OptimizerConfig;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.memory.MemorySettings;

/**
 * Trains a model of generated weights on a GPU, in 4 bits with LoRA of rank 8 on all linear layers, one row a step;
 * then lets it answer. Weights are made and quantized layer by layer on the way to the device, nothing goes to disk.
 */
public final class GpuTraining {
    private static final LoraConfig LORA = LoraConfig.allLinear(ModelShape.RANK, 32);
    private static final OptimizerConfig ADAMW = OptimizerConfig.adamW(0.9, 0.999, 1e-8, 0);
    private static final double NF4_BYTES = 0.5 + 1.0 / 64 + 4.0 / (64 * 256);

    private final Device device;
    private final GpuCard card;
    private final ModelShape shape;
    private final int steps;
    private final PrintStream out;
    private final Batch batch;

    private GpuTraining(Device device, ModelShape shape, int steps, PrintStream out) {
        this.device = device;
        this.card = GpuCard.of(Devices.ordinal(device.name()));
        this.shape = shape;
        this.steps = steps;
        this.out = out;
        int[] ids =
                new SplittableRandom(1).ints(shape.tokens(), 0, shape.vocab()).toArray();
        batch = new Batch(List.of(new Batch.Row(ids, ids.clone())));
    }

    /**
     * Loads, trains with and without checkpointing, and generates; prints a table.
     *
     * @param device a GPU that nothing else is on
     * @param steps timed ones, after one that is not
     * @param answer tokens to generate
     * @return all figures
     */
    public static ObjectNode run(Device device, ModelShape shape, int steps, int answer, PrintStream out) {
        return new GpuTraining(device, shape, steps, out).run(answer);
    }

    private ObjectNode run(int answer) {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.put("size", shape.name()).put("layers", shape.layers()).put("tokens", shape.tokens());
        json.set("card", card.json());
        long start = System.nanoTime();
        int threads = Runtime.getRuntime().availableProcessors();
        try (ModelSource source = GeneratedTensors.model(shape.config(), 1);
                Transformer model = ModelLoader.load(
                        source,
                        device,
                        new ModelLoader.Options(DType.BF16, Quantization.NF4_DOUBLE, threads),
                        (done, all) -> {})) {
            double loaded = (System.nanoTime() - start) / 1e9;
            json.put("load_seconds", loaded).put("base_bytes", device.bytesHeld());
            print(
                    "%s: %d layers quantized on %d threads in %.1f s, %.1f MB on the device",
                    shape.name(), shape.layers(), threads, loaded, device.bytesHeld() / 1e6);
            // the peak is that of all so far, so the smaller run comes first
            json.set("with_checkpointing", train(model, true));
            json.set("without_checkpointing", train(model, false));
            json.set("decode", decode(model, answer));
        }
        return json;
    }

    private MemoryEstimate estimate(Transformer model, boolean checkpointing) {
        return MemoryEstimate.of(new MemorySettings(
                model.config(),
                DType.BF16,
                Quantization.NF4_DOUBLE,
                ModelLoader.Int8.NOTHING,
                LORA,
                ADAMW,
                checkpointing ? shape.layers() : 0,
                List.of(batch),
                List.of(),
                device.name(),
                0,
                DType.BF16,
                0));
    }

    private ObjectNode train(Transformer model, boolean checkpointing) {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        String what = checkpointing ? "training with checkpointing" : "training without";
        MemoryEstimate estimate = estimate(model, checkpointing);
        long free = Devices.freeGpuMemory(device.name()) + device.bytesHeld();
        if (estimate.deviceBytes() > free) {
            String reason = String.format(
                    Locale.ROOT,
                    "left out: needs %.1f GB, the card has %.1f GB for it",
                    estimate.deviceBytes() / 1e9,
                    free / 1e9);
            print("%s: %s", what, reason);
            return json.put("left_out", reason);
        }
        model.setGradientCheckpointing(checkpointing);
        long base = device.bytesHeld();
        double[] seconds = new double[steps];
        double loss = 0;
        long attached;
        long state;
        try (LoraAdapter adapter = LoraAdapter.attach(model, LORA, 1)) {
            attached = device.bytesHeld();
            try (Optimizer optimizer = new Optimizer(device, adapter.parameters(), ADAMW)) {
                state = device.bytesHeld();
                for (int i = -1; i < steps; i++) {
                    long start = System.nanoTime();
                    adapter.parameters().zeroGradients();
                    loss = Arrays.stream(model.gradients(batch, 1.0 / batch.labelTokens(), i))
                                    .sum()
                            / batch.labelTokens();
                    // the norm comes to the host, so the step's work is done but for the optimizer's kernel
                    optimizer.step(1e-4);
                    optimizer.gradientNorm();
                    if (i >= 0) {
                        seconds[i] = (System.nanoTime() - start) / 1e9;
                    }
                }
            }
        }
        if (!Double.isFinite(loss)) {
            throw new ArithmeticException(what + ": the loss is " + loss);
        }
        Arrays.sort(seconds);
        double step = seconds[steps / 2];
        double flops = shape.stepFlops(checkpointing);
        double floor = card.seconds(flops, 0);
        print(
                "%s: %.1f ms a step, %.0f tokens/s, %.0f %% of the card's floor of %.1f ms, loss %.4f (ln of the"
                        + " vocabulary: %.4f)",
                what,
                step * 1e3,
                shape.tokens() / step,
                100 * floor / step,
                floor * 1e3,
                loss,
                Math.log(shape.vocab()));
        json.put("step_seconds", step).put("tokens_per_second", shape.tokens() / step);
        json.put("flops", flops).put("floor_seconds", floor).put("share_of_floor", floor / step);
        json.put("loss", loss);
        ObjectNode memory = json.putObject("memory");
        ObjectNode items = memory.putObject("estimated_items");
        estimate.items().forEach(item -> items.put(item.name(), item.bytes()));
        if (checkpointing) {
            // later runs find what the first one had for them, and hold no more
            parts(memory, estimate, base, attached - base, state - attached);
        }
        line(memory, "device_peak", estimate.deviceBytes(), device.peakBytes());
        long used = Devices.gpuMemory(device.name()) - Devices.freeGpuMemory(device.name());
        line(memory, "card", estimate.totalBytes(), used);
        return json;
    }

    /** What was held after loading, attaching and so on, in regions of megabytes, and the rest at the peak. */
    private void parts(ObjectNode json, MemoryEstimate estimate, long base, long adapter, long state) {
        long estimatedAdapter = estimate.bytes("adapters") + estimate.bytes("gradients");
        long estimatedState = estimate.bytes("optimizer");
        line(json, "base", estimate.baseBytes(), base);
        line(json, "adapters_and_gradients", estimatedAdapter, adapter);
        line(json, "optimizer", estimatedState, state);
        line(
                json,
                "step",
                estimate.deviceBytes() - estimate.baseBytes() - estimatedAdapter - estimatedState,
                device.peakBytes() - base - adapter - state);
    }

    private void line(ObjectNode json, String what, long estimated, long measured) {
        json.putObject(what).put("estimated", estimated).put("measured", measured);
        print("  %-24s estimated %9.1f MB, measured %9.1f MB", what, estimated / 1e6, measured / 1e6);
    }

    /** One token reads all weights but the embedding. */
    private ObjectNode decode(Transformer model, int tokens) {
        ObjectNode json = new ModelBench(model, () -> {}).generate(tokens, 1, 1);
        double rate = json.get("tokens_per_second").asDouble();
        double bytes = NF4_BYTES * shape.linearWeights() + 2.0 * shape.outputWeights();
        double floor = card.seconds(0, bytes);
        print(
                "decoding: %.1f tokens/s, %.0f %% of the card's floor of %.2f ms a token; first token after %.1f ms",
                rate,
                100 * floor * rate,
                floor * 1e3,
                1e3 * json.get("first_token_s").asDouble());
        return json.put("floor_seconds", floor).put("share_of_floor", floor * rate);
    }

    private void print(String format, Object... values) {
        out.println(String.format(Locale.ROOT, format, values));
    }
}
