package org.qlora4j.lora.model;

import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.BiConsumer;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.file.FloatFormats;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * Builds a {@link Transformer} from files.
 *
 * <p>Matrices are read and quantized by several threads a few ahead of the upload, so the host holds a handful of
 * quantized matrices and never the whole model in floating point. Embedding and output layer stay in floating point, as
 * in bitsandbytes, unless they are asked for in 8 bits.
 */
public final class ModelLoader {
    private ModelLoader() {}

    /**
     * Options of loading.
     *
     * @param dtype torch_dtype: F32, BF16 or F16; what the unquantized weights are kept in
     * @param quantization of the linear layers, null for none; a checkpoint that is in 4 bits already stays as it is
     * @param threads that read and quantize
     * @param int8 what is kept in 8 bits
     */
    public record Options(DType dtype, @Nullable Quantization quantization, int threads, Int8 int8) {
        /** Nothing in 8 bits. */
        public Options(DType dtype, @Nullable Quantization quantization, int threads) {
            this(dtype, quantization, threads, Int8.NOTHING);
        }

        public Options {
            if (dtype != DType.F32 && dtype != DType.BF16 && dtype != DType.F16) {
                throw new IllegalArgumentException(
                        "torch_dtype must be float32, bfloat16 or float16, got " + dtype.torchName());
            }
            if (threads < 1) {
                throw new IllegalArgumentException("threads must be at least 1, got " + threads);
            }
            if (quantization != null && int8.linears()) {
                throw new IllegalArgumentException("linear layers can be quantized to 4 or to 8 bits, not to both");
            }
        }
    }

    /**
     * What is kept in 8 bits, one scale a row (LLM.int8's storage).
     *
     * @param linears the linear layers that 4-bit quantization would take
     * @param embeddings embedding and output layer
     * @param skipModules {@code llm_int8_skip_modules}: linear layers that stay in floating point
     */
    public record Int8(boolean linears, boolean embeddings, List<String> skipModules) {
        public static final Int8 NOTHING = new Int8(false, false);

        /** @throws IllegalArgumentException if a skipped module is no regular expression */
        public Int8 {
            skipModules = Quantization.checkedSkips(skipModules);
        }

        /** All linear layers, or none. */
        public Int8(boolean linears, boolean embeddings) {
            this(linears, embeddings, List.of());
        }
    }

    /** What quantization a linear layer can have: in 4 or 8 bits, none, or 8 bits with the embedding. */
    private enum Kind {
        QUANTIZED,
        ROUTER,
        OUTPUT
    }

    /** A linear layer to be loaded. */
    private record Spec(String name, int out, int in, boolean bias, Kind kind) {}

    /**
     * Loads all weights.
     *
     * @param progress called after each matrix with the number done and the number of all
     * @return the model; it owns its weights
     */
    public static Transformer load(
            ModelSource source, Device device, Options options, BiConsumer<Integer, Integer> progress) {
        WeightReader reader = new WeightLoader(source.tensors(), options.dtype());
        return build(source.config(), reader, device, asStored(source, options), progress);
    }

    /** What a checkpoint kept in floating point was to stay so. */
    private static Options asStored(ModelSource source, Options options) {
        Int8 int8 = options.int8();
        if (source.isBnb4bit()) {
            return new Options(options.dtype(), null, options.threads(), new Int8(false, int8.embeddings()));
        }
        List<String> skipped = source.skippedIn8bit();
        if (!int8.linears() || skipped.isEmpty()) {
            return options;
        }
        List<String> all = new ArrayList<>(int8.skipModules());
        all.addAll(skipped);
        return new Options(options.dtype(), null, options.threads(), new Int8(true, int8.embeddings(), all));
    }

    /**
     * A model of the right sizes whose weights are undefined: nothing is read. For devices that only count.
     *
     * @see org.qlora4j.nf4.device.DryDevice
     */
    public static Transformer withoutWeights(ModelConfig config, Device device, Options options) {
        return build(config, new ShapesOnly(options.dtype()), device, options, (done, all) -> {});
    }

    @SuppressWarnings("MustBeClosedChecker") // the scope belongs to the model, or is closed on failure
    private static Transformer build(
            ModelConfig c, WeightReader loader, Device device, Options options, BiConsumer<Integer, Integer> progress) {
        Scope scope = device.newScope();
        try {
            String table = "model.embed_tokens.weight";
            Weight embedding = (options.int8().embeddings()
                            ? loader.readInt8(table, c.vocabSize(), c.hiddenSize())
                            : loader.read(table, c.vocabSize(), c.hiddenSize(), null))
                    .upload(device, scope);
            Map<String, Linear> linears = linears(loader, specs(c), device, scope, options, progress);
            LayerBuilder builder = new LayerBuilder(c, linears, loader, device, scope);
            List<Layer> layers = new ArrayList<>();
            for (int i = 0; i < c.numLayers(); i++) {
                layers.add(builder.layer(i));
            }
            Linear output = c.tieWordEmbeddings() ? new Linear("lm_head", embedding, null) : builder.linear("lm_head");
            LossHead head = new LossHead(device, builder.norm("model.norm", c.hiddenSize()), c.finalSoftcap(), output);
            Embedding tokens = new Embedding("model.embed_tokens", embedding, embeddingScale(c, options.dtype()));
            return new Transformer(c, device, scope, tokens, layers, head);
        } catch (RuntimeException | Error e) {
            scope.close();
            throw e;
        }
    }

    /** √C in the dtype of the embedding, as transformers computes it. */
    private static double embeddingScale(ModelConfig c, DType dtype) {
        float[] scale = {c.scaleEmbedding() ? (float) Math.sqrt(c.hiddenSize()) : 1};
        ByteBuffer rounded = ByteBuffer.allocate(dtype.bytes());
        FloatFormats.encode(dtype, scale, 0, 1, rounded);
        FloatFormats.decode(dtype, rounded.flip(), scale, 0, 1);
        return scale[0];
    }

    private static List<Spec> specs(ModelConfig c) {
        List<Spec> specs = new ArrayList<>();
        int hidden = c.hiddenSize();
        for (int i = 0; i < c.numLayers(); i++) {
            String attention = "model.layers." + i + ".self_attn.";
            String mlp = "model.layers." + i + ".mlp.";
            if (c.fusedProjections()) {
                int width = Math.addExact(c.queryWidth(), Math.multiplyExact(2, c.keyWidth()));
                specs.add(new Spec(attention + "qkv_proj", width, hidden, c.qkvBias(), Kind.QUANTIZED));
            } else {
                specs.add(new Spec(attention + "q_proj", c.queryWidth(), hidden, c.qkvBias(), Kind.QUANTIZED));
                specs.add(new Spec(attention + "k_proj", c.keyWidth(), hidden, c.qkvBias(), Kind.QUANTIZED));
                specs.add(new Spec(attention + "v_proj", c.keyWidth(), hidden, c.qkvBias(), Kind.QUANTIZED));
            }
            specs.add(new Spec(attention + "o_proj", hidden, c.queryWidth(), c.outputBias(), Kind.QUANTIZED));
            ExpertsConfig experts = c.layers().get(i).experts();
            if (experts != null) {
                specs.add(new Spec(mlp + "gate", experts.numExperts(), hidden, false, Kind.ROUTER));
                for (int e = 0; e < experts.numExperts(); e++) {
                    addMlp(specs, c, mlp + "experts." + e + ".", experts.moeIntermediateSize());
                }
            } else {
                addMlp(specs, c, mlp, c.intermediateSize());
            }
        }
        if (!c.tieWordEmbeddings()) {
            specs.add(new Spec("lm_head", c.vocabSize(), hidden, false, Kind.OUTPUT));
        }
        return specs;
    }

    private static void addMlp(List<Spec> specs, ModelConfig c, String prefix, int width) {
        int hidden = c.hiddenSize();
        if (c.fusedProjections()) {
            specs.add(new Spec(prefix + "gate_up_proj", 2 * width, hidden, c.mlpBias(), Kind.QUANTIZED));
        } else {
            specs.add(new Spec(prefix + "gate_proj", width, hidden, c.mlpBias(), Kind.QUANTIZED));
            specs.add(new Spec(prefix + "up_proj", width, hidden, c.mlpBias(), Kind.QUANTIZED));
        }
        specs.add(new Spec(prefix + "down_proj", hidden, width, c.mlpBias(), Kind.QUANTIZED));
    }

    private static Map<String, Linear> linears(
            WeightReader loader,
            List<Spec> specs,
            Device device,
            Scope scope,
            Options options,
            BiConsumer<Integer, Integer> progress) {
        Map<String, Linear> linears = new LinkedHashMap<>();
        try (ExecutorService pool = Executors.newFixedThreadPool(options.threads())) {
            Deque<Future<WeightReader.Prepared>> ahead = new ArrayDeque<>();
            int next = 0;
            for (int i = 0; i < specs.size(); i++) {
                for (; next < Math.min(specs.size(), i + 2 * options.threads()); next++) {
                    Spec s = specs.get(next);
                    ahead.add(pool.submit(() -> read(loader, s, options)));
                }
                Spec spec = specs.get(i);
                try {
                    Weight weight = ahead.remove().get().upload(device, scope);
                    Tensor bias = spec.bias ? loader.vector(device, scope, spec.name + ".bias", spec.out, 0) : null;
                    linears.put(spec.name, new Linear(spec.name, weight, bias));
                } catch (ExecutionException | InterruptedException | RuntimeException e) {
                    pool.shutdownNow();
                    throw unwrap(e);
                }
                progress.accept(i + 1, specs.size());
            }
        }
        return linears;
    }

    private static WeightReader.Prepared read(WeightReader loader, Spec s, Options options) {
        boolean eight = switch (s.kind) {
            case QUANTIZED ->
                options.int8().linears() && !Quantization.skips(options.int8().skipModules(), s.name);
            case ROUTER -> false;
            case OUTPUT -> options.int8().embeddings();
        };
        if (eight) {
            return loader.readInt8(s.name + ".weight", s.out, s.in);
        }
        Quantization q = options.quantization();
        boolean quantize = q != null && s.kind == Kind.QUANTIZED && q.quantizes(s.name);
        return loader.read(s.name + ".weight", s.out, s.in, quantize ? q : null);
    }

    private static RuntimeException unwrap(Exception e) {
        if (e instanceof InterruptedException) {
            Thread.currentThread().interrupt();
        }
        Throwable cause = e instanceof ExecutionException && e.getCause() != null ? e.getCause() : e;
        if (cause instanceof Error error) {
            throw error;
        }
        return cause instanceof RuntimeException r ? r : new IllegalStateException("loading was interrupted", cause);
    }
}
