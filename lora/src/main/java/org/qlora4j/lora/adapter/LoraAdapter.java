package org.qlora4j.lora.adapter;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LowRank;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Parameter;

/**
 * The trained part of a model: LoRA pairs on its linear layers, layers and rows that are trained whole. Owns its
 * parameters. A model may have several adapters, of which one at most is attached.
 */
public final class LoraAdapter implements AutoCloseable {
    private final Transformer model;
    private final LoraConfig config;
    private final LoraTargets targets;
    private final Scope derived;
    private final TrainableParameters parameters;
    private final List<AdapterParts.Attachment> attachments;
    private final Map<Linear, LowRank> takenOff = new LinkedHashMap<>();
    private boolean attached;

    /** All values are 0; not attached. */
    @SuppressWarnings("MustBeClosedChecker") // the scope is a field, closed with this
    private LoraAdapter(Transformer model, LoraConfig config, LoraTargets targets) {
        this.model = model;
        this.config = config;
        this.targets = targets;
        this.derived = model.device().newScope();
        TrainableParameters made = null;
        try {
            AdapterParts parts = new AdapterParts(model, config, targets, derived);
            made = new TrainableParameters(model.device(), parts.specs());
            this.attachments = parts.bind(made.parameters());
            this.parameters = made;
        } catch (RuntimeException | Error e) {
            derived.close();
            if (made != null) {
                made.close();
            }
            throw e;
        }
    }

    /**
     * Attaches a new adapter to a model.
     *
     * @param seed of the random start values
     * @throws IllegalArgumentException if a target matches no layer; the message lists the names that exist
     * @throws IllegalStateException if the model has an adapter already
     */
    public static LoraAdapter attach(Transformer model, LoraConfig config, long seed) {
        return attach(model, config, seed, null);
    }

    /**
     * As above.
     *
     * @param source the files the model was loaded from; LoftQ reads the weights before quantization there
     */
    public static LoraAdapter attach(Transformer model, LoraConfig config, long seed, @Nullable ModelSource source) {
        LoraAdapter adapter = new LoraAdapter(model, config, LoraTargets.of(model, config, true));
        try {
            adapter.attach();
            new LoraStart(adapter, seed, source).fill();
            return adapter;
        } catch (RuntimeException | Error e) {
            adapter.close();
            throw e;
        }
    }

    /** An adapter whose values are all 0, to be read from a file; not attached. */
    static LoraAdapter zeros(Transformer model, LoraConfig config) {
        return new LoraAdapter(model, config, LoraTargets.of(model, config, false));
    }

    /**
     * Puts this adapter into the model.
     *
     * @throws IllegalStateException if another adapter is in it; detach that first
     */
    public void attach() {
        if (attached) {
            return;
        }
        if (model.hasAdapter()) {
            throw new IllegalStateException("the model has another adapter; detach or close that first");
        }
        attachments.forEach(a -> a.set(true));
        takenOff.forEach(Linear::setTakenOff);
        attached = true;
    }

    /** Takes this adapter out of the model, which is the base model again; its values stay. */
    public void detach() {
        if (attached) {
            attachments.forEach(a -> a.set(false));
            takenOff.keySet().forEach(l -> l.setTakenOff(null));
            attached = false;
        }
    }

    /** Takes a low-rank part off a layer for as long as this adapter is attached. */
    void takeOff(Linear linear, float[] a, float[] b, int rank, double scale) {
        LowRank part = takenOff.get(linear);
        if (part == null) {
            part = new LowRank(derived.newPrecise(rank, linear.in()), derived.newPrecise(linear.out(), rank), scale);
            takenOff.put(linear, part);
        }
        model.device().upload(part.a(), a, 0);
        model.device().upload(part.b(), b, 0);
        if (attached) {
            linear.setTakenOff(part);
        }
    }

    @Nullable
    LowRank takenOff(Linear linear) {
        return takenOff.get(linear);
    }

    public Transformer model() {
        return model;
    }

    public LoraConfig config() {
        return config;
    }

    LoraTargets parts() {
        return targets;
    }

    /** Full names of the linear layers with LoRA. */
    public List<String> targets() {
        return targets.lora().stream().map(Linear::name).toList();
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

    /** A trained matrix of this adapter; null if it has none of that name. */
    @Nullable
    Parameter find(String module, String part) {
        return byName().get(AdapterParts.fileName(module, part));
    }

    /** Detaches from the model and frees the parameters. */
    @Override
    public void close() {
        detach();
        derived.close();
        parameters.close();
    }
}
