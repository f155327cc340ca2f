package org.qlora4j.lora.model;

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
        return new Layer(attention(prefix, config.layers().get(i)), mlp(prefix));
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
