package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.tensor.Parameter;

/**
 * Several LoRA adapters of one model as one, weighted.
 *
 * @see <a href="https://huggingface.co/docs/peft/developer_guides/lora#merge-lora-weights-into-the-base-model">PEFT's
 *     add_weighted_adapter</a>
 */
public final class AdapterCombination {
    private AdapterCombination() {}

    /** PEFT's {@code combination_type}. */
    public enum Type {
        /** Σ wᵢ·sᵢ·Bᵢ·Aᵢ exactly: ranks add up. */
        CAT,
        /** {@code A = Σ √|wᵢsᵢ|·Aᵢ} (with the sign of wᵢ), {@code B = Σ √|wᵢsᵢ|·Bᵢ}: one rank, an approximation. */
        LINEAR;

        /** @throws IllegalArgumentException for any other name */
        public static Type of(String name) {
            return switch (name.toLowerCase(Locale.ROOT)) {
                case "cat" -> CAT;
                case "linear" -> LINEAR;
                default ->
                    throw new IllegalArgumentException(
                            "combination_type '" + name + "' is not supported; supported: cat, linear");
            };
        }
    }

    /** A layer's pair, as it is written to a file. */
    private record Pair(float[] a, float[] b, int rank, double factor) {}

    /**
     * Makes a new adapter, which is not attached. The old ones stay and may be closed.
     *
     * @param adapters of the same model, plain LoRA
     * @param weights one for each; may be negative
     * @throws IllegalArgumentException if an adapter is more than LoRA on linear layers, or for LINEAR if ranks differ
     */
    public static LoraAdapter of(List<LoraAdapter> adapters, List<Double> weights, Type type) {
        if (adapters.isEmpty() || adapters.size() != weights.size()) {
            throw new IllegalArgumentException("there are " + adapters.size() + " adapters and " + weights.size()
                    + " weights; one is needed for each");
        }
        Transformer model = adapters.getFirst().model();
        Map<Linear, List<Pair>> pairs = new LinkedHashMap<>();
        for (int i = 0; i < adapters.size(); i++) {
            collect(adapters.get(i), weights.get(i), model, pairs);
        }
        Map<String, Integer> ranks = new LinkedHashMap<>();
        pairs.forEach((linear, list) -> ranks.put(linear.name().replace(".", "\\."), rank(linear, list, type)));
        int largest = ranks.values().stream().mapToInt(Integer::intValue).max().orElseThrow();
        ranks.values().removeIf(rank -> rank == largest);
        Set<String> names = new TreeSet<>();
        pairs.keySet().forEach(l -> names.add(l.name()));
        LoraConfig config = LoraConfig.builder(largest, largest)
                .targetModules(new ModuleSelector.Names(names))
                .rankPattern(ranks)
                .alphaPattern(alphas(ranks))
                .build();
        LoraAdapter combined = LoraAdapter.zeros(model, config);
        pairs.forEach((linear, list) -> fill(combined, linear, list, type));
        return combined;
    }

    /** So that every scale is 1. */
    private static Map<String, Double> alphas(Map<String, Integer> ranks) {
        Map<String, Double> alphas = new LinkedHashMap<>();
        ranks.forEach((name, rank) -> alphas.put(name, (double) rank));
        return alphas;
    }

    private static void collect(LoraAdapter adapter, double weight, Transformer model, Map<Linear, List<Pair>> pairs) {
        LoraConfig config = adapter.config().plain();
        LoraTargets parts = adapter.parts();
        boolean more = config.useDora()
                || config.loraBias()
                || config.bias() != BiasTraining.NONE
                || parts.loraEmbedding()
                || parts.savedEmbedding()
                || !parts.saved().isEmpty()
                || !parts.embeddingTokens().isEmpty()
                || !parts.outputTokens().isEmpty();
        if (more || adapter.model() != model) {
            throw new IllegalArgumentException(
                    "only plain LoRA on linear layers of one model can be combined (no DoRA, lora_bias, trained biases, modules_to_save,"
                            + " trainable_token_indices, LoRA on the embedding)");
        }
        Map<String, FileTensor> tensors = FileTensor.of(adapter);
        for (Linear linear : parts.lora()) {
            float[] a = values(tensors, linear, AdapterParts.LORA_A);
            float[] b = values(tensors, linear, AdapterParts.LORA_B);
            pairs.computeIfAbsent(linear, l -> new ArrayList<>())
                    .add(new Pair(a, b, a.length / linear.in(), weight * config.scale(linear.name())));
        }
    }

    private static float[] values(Map<String, FileTensor> tensors, Linear linear, String part) {
        FileTensor t = tensors.get(AdapterParts.fileName(linear.name(), part));
        if (t == null) {
            throw new AssertionError("no " + part + " of " + linear.name());
        }
        return t.get().get();
    }

    private static int rank(Linear linear, List<Pair> pairs, Type type) {
        int first = pairs.getFirst().rank;
        if (type == Type.CAT) {
            return pairs.stream().mapToInt(Pair::rank).sum();
        }
        for (Pair p : pairs) {
            if (p.rank != first) {
                throw new IllegalArgumentException("combination_type linear needs equal ranks; " + linear.name()
                        + " has " + first + " and " + p.rank + "; take cat");
            }
        }
        return first;
    }

    private static void fill(LoraAdapter combined, Linear linear, List<Pair> pairs, Type type) {
        Parameter pa = combined.find(linear.name(), AdapterParts.LORA_A);
        Parameter pb = combined.find(linear.name(), AdapterParts.LORA_B);
        if (pa == null || pb == null) {
            throw new AssertionError("no LoRA on " + linear.name());
        }
        float[] a = new float[Math.toIntExact(pa.value().numel())];
        float[] b = new float[Math.toIntExact(pb.value().numel())];
        int rank = pa.value().rows();
        int at = 0;
        for (Pair p : pairs) {
            double root = Math.sqrt(Math.abs(p.factor));
            double factorA = type == Type.CAT ? p.factor : Math.copySign(root, p.factor);
            double factorB = type == Type.CAT ? 1 : root;
            for (int i = 0; i < p.a.length; i++) {
                a[at * linear.in() + i] += (float) (factorA * p.a[i]);
            }
            for (int o = 0; o < linear.out(); o++) {
                for (int k = 0; k < p.rank; k++) {
                    b[o * rank + at + k] += (float) (factorB * p.b[o * p.rank + k]);
                }
            }
            at += type == Type.CAT ? p.rank : 0;
        }
        combined.model().device().upload(pa.value(), a, 0);
        combined.model().device().upload(pb.value(), b, 0);
    }
}
