import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.GeneratedTensors;
import org.qlora4j.lora.model.ModelConfig;
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
import org.qlora4j.samples.bench.ModelShape;

/**
 * Qwen3-14B in shape: weights come from a seeded generator while they are read, so the 28 GB of bf16 are nowhere on
 * disk. Quantizes them, makes one training step at batch 1 x 64, and prints measured memory beside the estimate:
 * Qwen3Shaped [THREADS [LAYERS]].
 */
class Qwen3Shaped {
    private static final int TOKENS = 64;

    public static void main(String[] args) throws IOException {
        int threads = args.length > 0 ? Integer.parseInt(args[0]) : Runtime.getRuntime().availableProcessors();
        int layers = args.length > 1 ? Integer.parseInt(args[1]) : ModelShape.QWEN3_14B.layers();
        ModelSource source = GeneratedTensors.model(ModelShape.QWEN3_14B.with(layers, TOKENS).config(), 1);
        ModelConfig config = source.config();
        LoraConfig lora = LoraConfig.allLinear(8, 32);
        OptimizerConfig adamW = OptimizerConfig.adamW(0.9, 0.999, 1e-8, 0);
        SplittableRandom random = new SplittableRandom(1);
        int[] ids = random.ints(TOKENS, 0, config.vocabSize()).toArray();
        Batch batch = new Batch(List.of(new Batch.Row(ids, ids.clone())));
        MemoryEstimate estimate = MemoryEstimate.of(new MemorySettings(
                config, DType.BF16, Quantization.NF4_DOUBLE, ModelLoader.Int8.NOTHING, lora, adamW, layers, List.of(batch), List.of(), "cpu", threads, DType.F32, 0));
        long estimated = estimate.items().stream().mapToLong(MemoryEstimate.Item::bytes).sum();
        long start = System.nanoTime();
        try (Device device = Devices.open("cpu", threads);
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.BF16, Quantization.NF4_DOUBLE, threads), (done, all) -> {
                            if (done % 28 == 0) {
                                System.err.printf("%d of %d matrices quantized, %.0f s%n", done, all, seconds(start));
                            }
                        })) {
            System.out.printf(
                    "%.2f billion parameters quantized in %.0f s on %d threads: %.2f GB on the device; peak of the process while loading %.2f GB%n",
                    estimate.parameters().all() / 1e9, seconds(start), threads, device.bytesHeld() / 1e9, peakBytes() / 1e9);
            model.setGradientCheckpointing(true);
            try (LoraAdapter adapter = LoraAdapter.attach(model, lora, 1);
                    Optimizer optimizer = new Optimizer(device, adapter.parameters(), adamW)) {
                long step = System.nanoTime();
                adapter.parameters().zeroGradients();
                double loss = 0;
                for (double l : model.gradients(batch, 1.0 / batch.labelTokens(), 0)) {
                    loss += l;
                }
                optimizer.step(1e-4);
                System.out.printf(
                        "one training step of 1 x %d tokens: %.0f s, loss %.4f (ln of the vocabulary is %.4f)%n",
                        TOKENS, seconds(step), loss / batch.labelTokens(), Math.log(config.vocabSize()));
            }
            System.out.printf(
                    "peak of the process %.2f GB, estimated %.2f GB (%+.1f %%)%n",
                    peakBytes() / 1e9, estimated / 1e9, 100.0 * (peakBytes() - estimated) / estimated);
        }
    }

    private static double seconds(long start) {
        return (System.nanoTime() - start) / 1e9;
    }

    /** VmHWM: the largest resident set. */
    private static long peakBytes() throws IOException {
        return Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("VmHWM:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) * 1024)
                .findFirst()
                .orElseThrow();
    }
}
