import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.SplittableRandom;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelConfig;
import org.qlora4j.lora.model.ModelFamily;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.StorageType;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.optim.Optimizer;
import org.qlora4j.optim.OptimizerConfig;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.memory.MemorySettings;

/**
 * Qwen3-14B in shape: weights come from a seeded generator while they are read, so the 28 GB of bf16 are nowhere on
 * disk. Quantizes them, makes one training step at batch 1 x 64, and prints measured memory beside the estimate:
 * Qwen3Shaped [THREADS [LAYERS]].
 */
class Qwen3Shaped {
    private static final int TOKENS = 64;

    public static void main(String[] args) throws IOException {
        int threads = args.length > 0 ? Integer.parseInt(args[0]) : Runtime.getRuntime().availableProcessors();
        ObjectNode json = config(args.length > 1 ? Integer.parseInt(args[1]) : 40);
        ModelConfig config = ModelFamily.read(Path.of("config.json"), json);
        LoraConfig lora = LoraConfig.allLinear(8, 32);
        OptimizerConfig adamW = OptimizerConfig.adamW(0.9, 0.999, 1e-8, 0);
        SplittableRandom random = new SplittableRandom(1);
        int[] ids = random.ints(TOKENS, 0, config.vocabSize()).toArray();
        Batch batch = new Batch(List.of(new Batch.Row(ids, ids.clone())));
        MemoryEstimate estimate = MemoryEstimate.of(new MemorySettings(
                config, DType.BF16, Quantization.NF4_DOUBLE, ModelLoader.Int8.NOTHING, lora, adamW, true, List.of(batch), List.of(), "cpu", threads, DType.F32, 0));
        long estimated = estimate.items().stream().mapToLong(MemoryEstimate.Item::bytes).sum();
        long start = System.nanoTime();
        try (Device device = Devices.open("cpu", threads);
                ModelSource source = new ModelSource(Path.of("generated"), new Generated(config), json, config);
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

    private static ObjectNode config(int layers) throws IOException {
        return (ObjectNode) new ObjectMapper().readTree("""
                {"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 5120, "intermediate_size": 17408,
                 "num_hidden_layers": %d, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
                 "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "hidden_act": "silu",
                 "attention_bias": false, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}""".formatted(layers));
    }

    /** Norms of ones; matrices uniform with deviation 0.02, four values from each hash of their place. */
    private record Generated(Map<String, StoredTensor> tensors) implements TensorFiles {
        private static final float WIDTH = (float) (0.02 * Math.sqrt(3) / 32768);

        Generated(ModelConfig c) {
            this(new LinkedHashMap<>());
            add("model.embed_tokens.weight", c.vocabSize(), c.hiddenSize());
            for (int i = 0; i < c.numLayers(); i++) {
                String layer = "model.layers." + i + ".";
                add(layer + "input_layernorm.weight", c.hiddenSize());
                add(layer + "post_attention_layernorm.weight", c.hiddenSize());
                add(layer + "self_attn.q_norm.weight", c.headDim());
                add(layer + "self_attn.k_norm.weight", c.headDim());
                add(layer + "self_attn.q_proj.weight", c.queryWidth(), c.hiddenSize());
                add(layer + "self_attn.k_proj.weight", c.keyWidth(), c.hiddenSize());
                add(layer + "self_attn.v_proj.weight", c.keyWidth(), c.hiddenSize());
                add(layer + "self_attn.o_proj.weight", c.hiddenSize(), c.queryWidth());
                add(layer + "mlp.gate_proj.weight", c.intermediateSize(), c.hiddenSize());
                add(layer + "mlp.up_proj.weight", c.intermediateSize(), c.hiddenSize());
                add(layer + "mlp.down_proj.weight", c.hiddenSize(), c.intermediateSize());
            }
            add("model.norm.weight", c.hiddenSize());
            add("lm_head.weight", c.vocabSize(), c.hiddenSize());
        }

        private void add(String name, long... shape) {
            long bytes = 2 * Arrays.stream(shape).reduce(1, Math::multiplyExact);
            List<Long> dims = Arrays.stream(shape).boxed().toList();
            tensors.put(name, new StoredTensor(name, new StorageType.Plain(DType.BF16), dims, location(), 0, bytes));
        }

        @Override
        public void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
            if (t.rank() == 1) {
                Arrays.fill(dst, dstOffset, dstOffset + count, 1f);
                return;
            }
            long seed = 20260L * 0x9E3779B97F4A7C15L + t.name().hashCode();
            for (int i = 0; i < count; i++) {
                long element = firstElement + i;
                long hash = mix(seed ^ element >>> 2);
                dst[dstOffset + i] = ((hash >>> (int) (element & 3) * 16 & 0xFFFF) - 32768) * WIDTH;
            }
        }

        private static long mix(long z) {
            z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
            z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
            return z ^ z >>> 31;
        }

        @Override
        public Path location() {
            return Path.of("generated");
        }

        @Override
        public Set<String> names() {
            return tensors.keySet();
        }

        @Override
        public Optional<StoredTensor> find(String name) {
            return Optional.ofNullable(tensors.get(name));
        }

        @Override
        public byte[] readBytes(StoredTensor t) {
            throw new UnsupportedOperationException("weights are generated as floats");
        }

        @Override
        public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
            readBytes(t);
        }

        @Override
        public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
            readBytes(t);
        }

        @Override
        public void close() {}
    }
}
