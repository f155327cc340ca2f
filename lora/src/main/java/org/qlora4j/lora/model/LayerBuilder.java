package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/** Puts a layer together from loaded linear layers, norms and rotary tables, as the config says. */
final class LayerBuilder {
    private final ModelConfig config;
    private final Map<String, Linear> linears;
    private final WeightReader loader;
    private final Device device;
    private final Scope scope;
    private final Map<RopeScaling, Rotary> rotaries = new HashMap<>();

    LayerBuilder(ModelConfig config, Map<String, Linear> linears, WeightReader loader, Device device, Scope scope) {
        this.config = config;
        this.linears = linears;
        this.loader = loader;
        this.device = device;
        this.scope = scope;
    }

    Layer layer(int i) {
        String prefix = "model.layers." + i + ".";
        LayerConfig layer = config.layers().get(i);
        ExpertsConfig experts = layer.experts();
        return new Layer(attention(prefix, layer), experts == null ? mlp(prefix) : experts(prefix, experts));
    }

    private AttentionBlock attention(String prefix, LayerConfig layer) {
        String p = prefix + "self_attn.";
        Projection qkv = new Projection(
                config.fusedProjections()
                        ? List.of(linear(p + "qkv_proj"))
                        : List.of(linear(p + "q_proj"), linear(p + "k_proj"), linear(p + "v_proj")),
                config.queryWidth(),
                config.keyWidth(),
                config.keyWidth());
        NormPlacement norms = config.norms();
        return new AttentionBlock(
                config,
                layer.slidingWindow(),
                layerNorm(prefix, norms.attentionInput),
                qkv,
                headNorm(p + "q_norm", config.queryWidth()),
                headNorm(p + "k_norm", config.keyWidth()),
                rotary(layer.rope()),
                new ResidualOutput(linear(p + "o_proj"), layerNorm(prefix, norms.attentionOutput)));
    }

    private MlpBlock mlp(String prefix) {
        String p = prefix + "mlp.";
        int width = config.intermediateSize();
        NormPlacement norms = config.norms();
        return new MlpBlock(
                config.activation(),
                layerNorm(prefix, norms.mlpInput),
                new Projection(
                        config.fusedProjections()
                                ? List.of(linear(p + "gate_up_proj"))
                                : List.of(linear(p + "gate_proj"), linear(p + "up_proj")),
                        width,
                        width),
                new ResidualOutput(linear(p + "down_proj"), layerNorm(prefix, norms.mlpOutput)));
    }

    private ExpertsBlock experts(String prefix, ExpertsConfig sizes) {
        String p = prefix + "mlp.";
        int width = sizes.moeIntermediateSize();
        List<Expert> experts = new ArrayList<>(sizes.numExperts());
        for (int e = 0; e < sizes.numExperts(); e++) {
            String expert = p + "experts." + e + ".";
            experts.add(new Expert(
                    config.activation(),
                    new Projection(List.of(linear(expert + "gate_proj"), linear(expert + "up_proj")), width, width),
                    linear(expert + "down_proj")));
        }
        return new ExpertsBlock(sizes, device, layerNorm(prefix, config.norms().mlpInput), linear(p + "gate"), experts);
    }

    private @Nullable Rotary rotary(@Nullable RopeScaling rope) {
        return rope == null
                ? null
                : rotaries.computeIfAbsent(
                        rope, r -> new Rotary(device, scope, r, config.headDim(), config.rotaryDim()));
    }

    private Norm layerNorm(String prefix, @Nullable String name) {
        return name == null ? Norm.NONE : norm(prefix + name, config.hiddenSize());
    }

    private Norm headNorm(String module, int width) {
        return switch (config.qkNorm()) {
            case NONE -> Norm.NONE;
            case PER_HEAD -> norm(module, config.headDim());
            case WHOLE_PROJECTION -> norm(module, width);
        };
    }

    /** A norm whose weight is as wide as given. */
    Norm norm(String module, int width) {
        Tensor weight = loader.vector(device, scope, module + ".weight", width, config.normAddsOne() ? 1 : 0);
        return Norm.of(weight, config.rmsNormEps());
    }

    Linear linear(String name) {
        Linear linear = linears.get(name);
        if (linear == null) {
            throw new AssertionError("no linear layer " + name);
        }
        return linear;
    }
}
