package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Embedding;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.TrainedRows;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/** What an adapter trains: the matrices first, then, when they have memory, how they get into the model. */
final class AdapterParts {
    private static final String PREFIX = "base_model.model.";
    static final String LORA_A = ".lora_A.weight";
    static final String LORA_B = ".lora_B.weight";
    static final String LORA_BIAS = ".lora_B.bias";
    static final String MAGNITUDE = ".lora_magnitude_vector";
    static final String EMBEDDING_A = ".lora_embedding_A";
    static final String EMBEDDING_B = ".lora_embedding_B";
    /** Of a layer with LoRA, which PEFT wraps, and of any other. */
    private static final String WRAPPED_BIAS = ".base_layer.bias";

    private static final String BIAS = ".bias";
    private static final String TOKENS = ".token_adapter.trainable_tokens_delta";

    /** A switch for one part of the model. */
    interface Attachment {
        void set(boolean on);
    }

    private final LoraConfig config;
    private final Scope derived;
    private final Transformer model;
    private final List<TrainableParameters.Spec> specs = new ArrayList<>();
    private final List<Function<List<Parameter>, Attachment>> binders = new ArrayList<>();

    /** @param derived memory of what is computed from the parameters */
    AdapterParts(Transformer model, LoraConfig config, LoraTargets targets, Scope derived) {
        this.model = model;
        this.config = config;
        this.derived = derived;
        linears(targets.lora());
        if (config.bias() != BiasTraining.NONE) {
            biases(targets);
        }
        if (targets.loraEmbedding()) {
            embedding(model.embedding());
        }
        targets.saved().forEach(this::saved);
        if (targets.savedEmbedding()) {
            savedEmbedding(targets.tied());
        }
        if (!targets.embeddingTokens().isEmpty()) {
            rows(model.embedding().name(), targets.embeddingTokens(), true, targets.tied());
        }
        if (!targets.outputTokens().isEmpty()) {
            rows(model.outputLayer().name(), targets.outputTokens(), false, true);
        }
    }

    static String fileName(String module, String part) {
        return PREFIX + module + part;
    }

    List<TrainableParameters.Spec> specs() {
        return specs;
    }

    /** @param parameters for {@link #specs()}, in the same order */
    List<Attachment> bind(List<Parameter> parameters) {
        return binders.stream().map(b -> b.apply(parameters)).toList();
    }

    /** @return the parameter's place among all */
    private int spec(String module, String part, int rows, int cols) {
        specs.add(new TrainableParameters.Spec(fileName(module, part), rows, cols));
        return specs.size() - 1;
    }

    /** All A of a module (an attention, an mlp) before its B, so that those of one input can be multiplied as one. */
    private void linears(List<Linear> all) {
        int end;
        for (int first = 0; first < all.size(); first = end) {
            end = first;
            List<Integer> places = new ArrayList<>();
            while (end < all.size() && parent(all.get(end)).equals(parent(all.get(first)))) {
                Linear linear = all.get(end++);
                places.add(spec(linear.name(), LORA_A, config.rank(linear.name()), linear.in()));
            }
            for (int i = first; i < end; i++) {
                linear(all.get(i), i, places.get(i - first));
            }
        }
    }

    private static String parent(Linear linear) {
        return linear.name().substring(0, linear.name().lastIndexOf('.') + 1);
    }

    private void linear(Linear linear, int stream, int a) {
        String name = linear.name();
        int b = spec(name, LORA_B, linear.out(), config.rank(name));
        int m = config.useDora() ? spec(name, MAGNITUDE, 1, linear.out()) : -1;
        int bias = config.loraBias() ? spec(name, LORA_BIAS, 1, linear.out()) : -1;
        binders.add(all -> {
            LoraWeights.@Nullable Magnitude magnitude = m < 0
                    ? null
                    : new LoraWeights.Magnitude(
                            all.get(m), derived.newPrecise(1, linear.out()), derived.newPrecise(1, linear.out()));
            LoraWeights weights = new LoraWeights(
                    all.get(a),
                    all.get(b),
                    config.scale(name),
                    config.loraDropout(),
                    stream,
                    magnitude,
                    bias < 0 ? null : all.get(bias));
            return on -> linear.setLora(on ? weights : null);
        });
    }

    private void biases(LoraTargets targets) {
        for (Linear linear : model.linears()) {
            Tensor frozen = linear.bias();
            boolean wrapped = targets.lora().contains(linear);
            if (frozen == null || !wrapped && config.bias() == BiasTraining.LORA_ONLY) {
                continue;
            }
            int bias = spec(linear.name(), wrapped ? WRAPPED_BIAS : BIAS, 1, linear.out());
            binders.add(all -> {
                Parameter copy = all.get(bias);
                model.device().ops().copy(copy.value(), frozen);
                return on -> linear.setTrainedBias(on ? copy : null);
            });
        }
    }

    /** A is kept as [V, rank], its transpose in the file. */
    private void embedding(Embedding embedding) {
        String name = embedding.name();
        int rank = config.rank(name);
        int a = spec(name, EMBEDDING_A, embedding.frozen().rows(), rank);
        int b = spec(name, EMBEDDING_B, embedding.frozen().cols(), rank);
        binders.add(all -> {
            LoraWeights weights = new LoraWeights(all.get(a), all.get(b), config.scale(name), 0, -1, null, null);
            return on -> embedding.setLora(on ? weights : null);
        });
    }

    private void saved(Linear linear) {
        int weight = spec(linear.name(), ".weight", linear.out(), linear.in());
        binders.add(all -> {
            Parameter copy = all.get(weight);
            return on -> linear.setTrained(on ? copy : null);
        });
    }

    private void savedEmbedding(boolean tied) {
        Embedding embedding = model.embedding();
        int weight = spec(
                embedding.name(),
                ".weight",
                embedding.frozen().rows(),
                embedding.frozen().cols());
        binders.add(all -> {
            Parameter copy = all.get(weight);
            return on -> {
                embedding.setTrained(on ? copy : null);
                if (tied) {
                    model.outputLayer().setTrained(on ? copy : null);
                }
            };
        });
    }

    private void rows(String module, List<Integer> tokens, boolean inEmbedding, boolean inOutput) {
        int[] ids = tokens.stream().mapToInt(Integer::intValue).toArray();
        int vocabulary = model.embedding().frozen().rows();
        for (int id : ids) {
            if (id >= vocabulary) {
                throw new IllegalArgumentException(
                        "trainable_token_indices: there is no token " + id + ", the model has " + vocabulary);
            }
        }
        int values = spec(module, TOKENS, ids.length, model.embedding().frozen().cols());
        binders.add(all -> {
            Tensor onDevice = derived.newTensor(DType.I32, 1, ids.length);
            model.device().upload(onDevice, ids, 0);
            TrainedRows rows = new TrainedRows(all.get(values), ids, onDevice);
            return on -> {
                if (inEmbedding) {
                    model.embedding().setTrainedRows(on ? rows : null);
                }
                if (inOutput) {
                    model.outputLayer().setTrainedRows(on ? rows : null);
                }
            };
        });
    }
}
