package org.qlora4j.lora.model;

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
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * Builds a {@link Transformer} from files.
 *
 * <p>Matrices are read and quantized by several threads a few ahead of the upload, so the host holds a handful of
 * quantized matrices and never the whole model in floating point. Embedding and output layer stay in floating point, as
 * in bitsandbytes.
 */
public final class ModelLoader {
    private ModelLoader() {}

    /**
     * Options of loading.
     *
     * @param dtype torch_dtype: F32, BF16 or F16; what the unquantized weights are kept in
     * @param quantization of the linear layers, null for none
     * @param threads that read and quantize
     */
    public record Options(DType dtype, @Nullable Quantization quantization, int threads) {
        public Options {
            if (dtype != DType.F32 && dtype != DType.BF16 && dtype != DType.F16) {
                throw new IllegalArgumentException(
                        "torch_dtype must be float32, bfloat16 or float16, got " + dtype.torchName());
            }
            if (threads < 1) {
                throw new IllegalArgumentException("threads must be at least 1, got " + threads);
            }
        }
    }

    /** A linear layer to be loaded. */
    private record Spec(String name, int out, int in, boolean bias, boolean quantize) {}

    /**
     * Loads all weights.
     *
     * @param progress called after each matrix with the number done and the number of all
     * @return the model; it owns its weights
     */
    @SuppressWarnings("MustBeClosedChecker") // the scope belongs to the model, or is closed on failure
    public static Transformer load(
            ModelSource source, Device device, Options options, BiConsumer<Integer, Integer> progress) {
        ModelConfig c = source.config();
        WeightLoader loader = new WeightLoader(source.tensors(), options.dtype());
        Scope scope = device.newScope();
        try {
            Weight embedding = loader.read("model.embed_tokens.weight", c.vocabSize(), c.hiddenSize(), null)
                    .upload(device, scope);
            Map<String, Linear> linears = linears(loader, specs(c), device, scope, options, progress);
            Rotary rotary = new Rotary(device, scope, c);
            List<Layer> layers = new ArrayList<>();
            for (int i = 0; i < c.numLayers(); i++) {
                layers.add(layer(c, i, linears, loader, rotary, device, scope));
            }
            Linear output = c.tieWordEmbeddings() ? new Linear("lm_head", embedding, null) : get(linears, "lm_head");
            Tensor norm = loader.vector(device, scope, "model.norm.weight", c.hiddenSize());
            return new Transformer(c, device, scope, embedding, layers, new LossHead(c, device, norm, output));
        } catch (RuntimeException | Error e) {
            scope.close();
            throw e;
        }
    }

    private static List<Spec> specs(ModelConfig c) {
        List<Spec> specs = new ArrayList<>();
        for (int i = 0; i < c.numLayers(); i++) {
            String attention = "model.layers." + i + ".self_attn.";
            String mlp = "model.layers." + i + ".mlp.";
            specs.add(new Spec(attention + "q_proj", c.queryWidth(), c.hiddenSize(), c.attentionBias(), true));
            specs.add(new Spec(attention + "k_proj", c.keyWidth(), c.hiddenSize(), c.attentionBias(), true));
            specs.add(new Spec(attention + "v_proj", c.keyWidth(), c.hiddenSize(), c.attentionBias(), true));
            specs.add(new Spec(attention + "o_proj", c.hiddenSize(), c.queryWidth(), c.attentionBias(), true));
            specs.add(new Spec(mlp + "gate_proj", c.intermediateSize(), c.hiddenSize(), c.mlpBias(), true));
            specs.add(new Spec(mlp + "up_proj", c.intermediateSize(), c.hiddenSize(), c.mlpBias(), true));
            specs.add(new Spec(mlp + "down_proj", c.hiddenSize(), c.intermediateSize(), c.mlpBias(), true));
        }
        if (!c.tieWordEmbeddings()) {
            specs.add(new Spec("lm_head", c.vocabSize(), c.hiddenSize(), false, false));
        }
        return specs;
    }

    private static Map<String, Linear> linears(
            WeightLoader loader,
            List<Spec> specs,
            Device device,
            Scope scope,
            Options options,
            BiConsumer<Integer, Integer> progress) {
        Map<String, Linear> linears = new LinkedHashMap<>();
        try (ExecutorService pool = Executors.newFixedThreadPool(options.threads())) {
            Deque<Future<WeightLoader.Prepared>> ahead = new ArrayDeque<>();
            int next = 0;
            for (int i = 0; i < specs.size(); i++) {
                for (; next < Math.min(specs.size(), i + 2 * options.threads()); next++) {
                    Spec s = specs.get(next);
                    ahead.add(pool.submit(() ->
                            loader.read(s.name + ".weight", s.out, s.in, s.quantize ? options.quantization() : null)));
                }
                Spec spec = specs.get(i);
                try {
                    Weight weight = ahead.remove().get().upload(device, scope);
                    Tensor bias = spec.bias ? loader.vector(device, scope, spec.name + ".bias", spec.out) : null;
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

    private static Layer layer(
            ModelConfig c,
            int i,
            Map<String, Linear> linears,
            WeightLoader loader,
            Rotary rotary,
            Device device,
            Scope scope) {
        String p = "model.layers." + i + ".";
        Tensor inputNorm = loader.vector(device, scope, p + "input_layernorm.weight", c.hiddenSize());
        Tensor middleNorm = loader.vector(device, scope, p + "post_attention_layernorm.weight", c.hiddenSize());
        return new Layer(
                new AttentionBlock(
                        c,
                        inputNorm,
                        rotary,
                        get(linears, p + "self_attn.q_proj"),
                        get(linears, p + "self_attn.k_proj"),
                        get(linears, p + "self_attn.v_proj"),
                        get(linears, p + "self_attn.o_proj")),
                new MlpBlock(
                        c,
                        middleNorm,
                        get(linears, p + "mlp.gate_proj"),
                        get(linears, p + "mlp.up_proj"),
                        get(linears, p + "mlp.down_proj")));
    }

    private static Linear get(Map<String, Linear> linears, String name) {
        Linear linear = linears.get(name);
        if (linear == null) {
            throw new AssertionError("no linear layer " + name);
        }
        return linear;
    }
}
