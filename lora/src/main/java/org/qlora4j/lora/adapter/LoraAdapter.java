package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Parameter;

/**
 * The trained part of a model: LoRA pairs on its linear layers, and layers that are trained whole. Owns its parameters.
 */
public final class LoraAdapter implements AutoCloseable {
    private static final String PREFIX = "base_model.model.";
    static final String MAGNITUDE = ".lora_magnitude_vector";

    private final Transformer model;
    private final LoraConfig config;
    private final TrainableParameters parameters;
    private final Scope derived;
    private final List<String> targets;

    /** All values are 0. */
    @SuppressWarnings("MustBeClosedChecker") // the scope is a field, closed with this
    private LoraAdapter(Transformer model, LoraConfig config, List<Linear> targets, List<Linear> saved) {
        this.model = model;
        this.config = config;
        this.targets = targets.stream().map(Linear::name).toList();
        this.parameters = new TrainableParameters(model.device(), specs(config, targets, saved));
        this.derived = model.device().newScope();
        Iterator<Parameter> next = parameters.parameters().iterator();
        for (int i = 0; i < targets.size(); i++) {
            Linear linear = targets.get(i);
            Parameter a = next.next();
            Parameter b = next.next();
            LoraWeights.@Nullable Magnitude magnitude = config.useDora()
                    ? new LoraWeights.Magnitude(
                            next.next(), derived.newTensor(1, linear.out()), derived.newTensor(1, linear.out()))
                    : null;
            linear.setLora(new LoraWeights(a, b, config.scale(linear.name()), config.loraDropout(), i, magnitude));
        }
        for (Linear linear : saved) {
            linear.setTrained(next.next());
        }
    }

    private static List<TrainableParameters.Spec> specs(LoraConfig config, List<Linear> targets, List<Linear> saved) {
        List<TrainableParameters.Spec> specs = new ArrayList<>();
        for (Linear linear : targets) {
            String name = PREFIX + linear.name();
            int rank = config.rank(linear.name());
            specs.add(new TrainableParameters.Spec(name + ".lora_A.weight", rank, linear.in()));
            specs.add(new TrainableParameters.Spec(name + ".lora_B.weight", linear.out(), rank));
            if (config.useDora()) {
                specs.add(new TrainableParameters.Spec(name + MAGNITUDE, 1, linear.out()));
            }
        }
        for (Linear linear : saved) {
            specs.add(new TrainableParameters.Spec(PREFIX + linear.name() + ".weight", linear.out(), linear.in()));
        }
        return specs;
    }

    /**
     * Attaches a new adapter to a model.
     *
     * @param seed of the random start values
     * @throws IllegalArgumentException if a target matches no linear layer; the message lists the names that exist
     * @throws IllegalStateException if the model has an adapter already
     */
    public static LoraAdapter attach(Transformer model, LoraConfig config, long seed) {
        LoraAdapter adapter = attachZeros(model, config);
        try {
            adapter.start(seed);
            return adapter;
        } catch (RuntimeException | Error e) {
            adapter.close();
            throw e;
        }
    }

    private void start(long seed) {
        LoraStart start = new LoraStart(model.device(), config.initWeights(), seed);
        for (Linear linear : model.linears()) {
            LoraWeights lora = linear.lora();
            Parameter trained = linear.trained();
            if (lora != null) {
                start.fill(linear, lora);
            } else if (trained != null) {
                model.device().ops().dequantize(trained.value(), linear.frozen());
            }
        }
    }

    /** Attaches an adapter whose values are all 0, to be read from a file. */
    static LoraAdapter attachZeros(Transformer model, LoraConfig config) {
        List<Linear> targets = LoraTargets.lora(model, config);
        List<Linear> saved = LoraTargets.saved(model, config);
        for (Linear linear : model.linears()) {
            if (linear.lora() != null || linear.trained() != null) {
                throw new IllegalStateException(
                        "the model has an adapter already (on " + linear.name() + "); close it first");
            }
        }
        return new LoraAdapter(model, config, targets, saved);
    }

    public Transformer model() {
        return model;
    }

    public LoraConfig config() {
        return config;
    }

    /** Full names of the layers with LoRA. */
    public List<String> targets() {
        return targets;
    }

    /** All trained values and gradients. */
    public TrainableParameters parameters() {
        return parameters;
    }

    /** The trained matrices by their names in adapter_model.safetensors. */
    public Map<String, Parameter> byName() {
        Map<String, Parameter> map = new LinkedHashMap<>();
        parameters.parameters().forEach(p -> map.put(p.name(), p));
        return map;
    }

    /** Detaches from the model and frees the parameters. */
    @Override
    public void close() {
        for (Linear linear : model.linears()) {
            linear.setLora(null);
            linear.setTrained(null);
        }
        derived.close();
        parameters.close();
    }
}
