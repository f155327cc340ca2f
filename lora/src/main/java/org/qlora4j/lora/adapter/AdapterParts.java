package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.Iterator;
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
    private final List<Function<Iterator<Parameter>, Attachment>> binders = new ArrayList<>();

    /** @param derived memory of what is computed from the parameters */
    AdapterParts(Transformer model, LoraConfig config, LoraTargets targets, Scope derived) {
        this.model = model;
        this.config = config;
        this.derived = derived;
        for (int i = 0; i < targets.lora().size(); i++) {
            linear(targets.lora().get(i), i);
        }
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
        Iterator<Parameter> next = parameters.iterator();
        return binders.stream().map(b -> b.apply(next)).toList();
    }

    private void spec(String module, String part, int rows, int cols) {
        specs.add(new TrainableParameters.Spec(fileName(module, part), rows, cols));
    }

    private void linear(Linear linear, int stream) {
        String name = linear.name();
        int rank = config.rank(name);
        spec(name, LORA_A, rank, linear.in());
        spec(name, LORA_B, linear.out(), rank);
        if (config.useDora()) {
            spec(name, MAGNITUDE, 1, linear.out());
        }
        if (config.loraBias()) {
            spec(name, LORA_BIAS, 1, linear.out());
        }
        binders.add(next -> {
            Parameter a = next.next();
            Parameter b = next.next();
            LoraWeights.@Nullable Magnitude magnitude = config.useDora()
                    ? new LoraWeights.Magnitude(
                            next.next(), derived.newPrecise(1, linear.out()), derived.newPrecise(1, linear.out()))
                    : null;
            Parameter bias = config.loraBias() ? next.next() : null;
            LoraWeights weights =
                    new LoraWeights(a, b, config.scale(name), config.loraDropout(), stream, magnitude, bias);
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
            spec(linear.name(), wrapped ? WRAPPED_BIAS : BIAS, 1, linear.out());
            binders.add(next -> {
                Parameter copy = next.next();
                model.device().ops().copy(copy.value(), frozen);
                return on -> linear.setTrainedBias(on ? copy : null);
            });
        }
    }

    /** A is kept as [V, rank], its transpose in the file. */
    private void embedding(Embedding embedding) {
        String name = embedding.name();
        int rank = config.rank(name);
        spec(name, EMBEDDING_A, embedding.frozen().rows(), rank);
        spec(name, EMBEDDING_B, embedding.frozen().cols(), rank);
        binders.add(next -> {
            LoraWeights weights = new LoraWeights(next.next(), next.next(), config.scale(name), 0, -1, null, null);
            return on -> embedding.setLora(on ? weights : null);
        });
    }

    private void saved(Linear linear) {
        spec(linear.name(), ".weight", linear.out(), linear.in());
        binders.add(next -> {
            Parameter copy = next.next();
            return on -> linear.setTrained(on ? copy : null);
        });
    }

    private void savedEmbedding(boolean tied) {
        Embedding embedding = model.embedding();
        spec(
                embedding.name(),
                ".weight",
                embedding.frozen().rows(),
                embedding.frozen().cols());
        binders.add(next -> {
            Parameter copy = next.next();
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
        spec(module, TOKENS, ids.length, model.embedding().frozen().cols());
        binders.add(next -> {
            Tensor onDevice = derived.newTensor(DType.I32, 1, ids.length);
            model.device().upload(onDevice, ids, 0);
            TrainedRows rows = new TrainedRows(next.next(), ids, onDevice);
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
