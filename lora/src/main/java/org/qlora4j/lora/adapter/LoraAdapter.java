package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The trained part of a model: LoRA pairs on its linear layers, and layers that are trained whole. Owns its parameters.
 */
public final class LoraAdapter implements AutoCloseable {
    private static final String PREFIX = "base_model.model.";
    private static final Pattern LAYER = Pattern.compile(".*?\\.layers\\.(\\d+)\\..*");

    private final Transformer model;
    private final LoraConfig config;
    private final TrainableParameters parameters;
    private final List<String> targets;

    private LoraAdapter(Transformer model, LoraConfig config, TrainableParameters parameters, List<String> targets) {
        this.model = model;
        this.config = config;
        this.parameters = parameters;
        this.targets = List.copyOf(targets);
    }

    /**
     * Attaches a new adapter to a model.
     *
     * @param seed of the random start values
     * @throws IllegalArgumentException if a target matches no linear layer; the message lists the names that exist
     * @throws IllegalStateException if the model has an adapter already
     */
    public static LoraAdapter attach(Transformer model, LoraConfig config, long seed) {
        List<Linear> targets = targets(model, config);
        List<Linear> saved = savedModules(model, config);
        for (Linear linear : model.linears()) {
            if (linear.lora() != null || linear.trained() != null) {
                throw new IllegalStateException(
                        "the model has an adapter already (on " + linear.name() + "); close it first");
            }
        }
        List<TrainableParameters.Spec> specs = new ArrayList<>();
        for (Linear linear : targets) {
            int rank = config.rank(linear.name());
            specs.add(new TrainableParameters.Spec(PREFIX + linear.name() + ".lora_A.weight", rank, linear.in()));
            specs.add(new TrainableParameters.Spec(PREFIX + linear.name() + ".lora_B.weight", linear.out(), rank));
        }
        for (Linear linear : saved) {
            specs.add(new TrainableParameters.Spec(PREFIX + linear.name() + ".weight", linear.out(), linear.in()));
        }
        TrainableParameters parameters = new TrainableParameters(model.device(), specs);
        List<Parameter> list = parameters.parameters();
        int at = 0;
        SplittableRandom random = new SplittableRandom(seed);
        for (int i = 0; i < targets.size(); i++) {
            Linear linear = targets.get(i);
            LoraWeights weights = new LoraWeights(
                    list.get(at++), list.get(at++), config.scale(linear.name()), config.loraDropout(), i);
            initialize(model.device(), weights, config.initWeights(), random);
            linear.setLora(weights);
        }
        for (Linear linear : saved) {
            Parameter copy = list.get(at++);
            model.device().ops().dequantize(copy.value(), linear.frozen());
            linear.setTrained(copy);
        }
        return new LoraAdapter(
                model, config, parameters, targets.stream().map(Linear::name).toList());
    }

    private static void initialize(
            Device device, LoraWeights weights, LoraConfig.InitWeights how, SplittableRandom random) {
        switch (how) {
            case TRUE -> uniform(device, weights.a().value(), random);
            case FALSE -> {
                uniform(device, weights.a().value(), random);
                uniform(device, weights.b().value(), random);
            }
            case GAUSSIAN -> {
                double deviation = 1.0 / weights.rank();
                double[] values = new double[(int) weights.a().value().numel()];
                for (int i = 0; i < values.length; i++) {
                    values[i] = (float) (random.nextGaussian() * deviation);
                }
                device.upload(weights.a().value(), values, 0);
            }
        }
    }

    /**
     * kaiming_uniform with a = √5 is uniform in ±1/√(fan in); rounded to fp32 so that every device starts from the same
     * values.
     */
    private static void uniform(Device device, Tensor t, SplittableRandom random) {
        double bound = 1 / Math.sqrt(t.cols());
        double[] values = new double[(int) t.numel()];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) ((2 * random.nextDouble() - 1) * bound);
        }
        device.upload(t, values, 0);
    }

    private static List<Linear> targets(Transformer model, LoraConfig config) {
        Linear output = model.outputLayer();
        boolean all = config.targetModules() instanceof ModuleSelector.AllLinear;
        List<Linear> selected = new ArrayList<>();
        for (Linear linear : model.linears()) {
            if ((all && linear == output) || config.modulesToSave().contains(suffix(linear.name()))) {
                continue;
            }
            if (config.targetModules().selects(linear.name()) && inLayers(config, linear.name())) {
                selected.add(linear);
            }
        }
        if (config.targetModules() instanceof ModuleSelector.Names list) {
            for (String name : list.names()) {
                if (selected.stream().noneMatch(l -> ModuleSelector.Names.matches(name, l.name()))) {
                    throw nothingMatches("target_modules '" + name + "'", model);
                }
            }
        }
        ModuleSelector exclude = config.excludeModules();
        if (exclude != null) {
            selected.removeIf(l -> exclude.selects(l.name()));
        }
        if (selected.isEmpty()) {
            throw nothingMatches("target_modules", model);
        }
        return selected;
    }

    private static boolean inLayers(LoraConfig config, String module) {
        List<Integer> layers = config.layersToTransform();
        if (layers == null) {
            return true;
        }
        Matcher m = LAYER.matcher(module);
        return m.matches() && layers.contains(Integer.valueOf(m.group(1)));
    }

    private static List<Linear> savedModules(Transformer model, LoraConfig config) {
        List<Linear> saved = new ArrayList<>();
        for (String name : config.modulesToSave()) {
            Linear output = model.outputLayer();
            if (!ModuleSelector.Names.matches(name, output.name())) {
                throw new IllegalArgumentException(
                        "modules_to_save '" + name + "' is not supported; supported: " + output.name());
            }
            saved.add(output);
        }
        return saved;
    }

    private static IllegalArgumentException nothingMatches(String what, Transformer model) {
        Set<String> suffixes = new LinkedHashSet<>();
        model.linears().forEach(l -> suffixes.add(suffix(l.name())));
        return new IllegalArgumentException(
                what + " matches no linear layer of the model; there are: " + String.join(", ", suffixes));
    }

    private static String suffix(String module) {
        return module.substring(module.lastIndexOf('.') + 1);
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
        parameters.close();
    }
}
