package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** Collects the options of a {@link LoraConfig}, which describes and checks them. */
public final class LoraConfigBuilder {
    private int r;
    private double loraAlpha;
    private double loraDropout;
    private ModuleSelector targetModules = new ModuleSelector.AllLinear();
    private @Nullable ModuleSelector excludeModules;
    private boolean useRslora;
    private boolean useDora;
    private Map<String, Integer> rankPattern = Map.of();
    private Map<String, Double> alphaPattern = Map.of();
    private @Nullable List<Integer> layersToTransform;
    private List<String> layersPattern = List.of();
    private Set<String> modulesToSave = Set.of();
    private Map<String, List<Integer>> trainableTokenIndices = Map.of();
    private boolean ensureWeightTying = true;
    private boolean loraBias;
    private BiasTraining bias = BiasTraining.NONE;
    private Map<String, JsonNode> otherKeys = Map.of();
    private InitWeights initWeights = InitWeights.TRUE;

    LoraConfigBuilder(int r, double loraAlpha) {
        this.r = r;
        this.loraAlpha = loraAlpha;
    }

    LoraConfigBuilder(LoraConfig c) {
        r = c.r();
        loraAlpha = c.loraAlpha();
        loraDropout = c.loraDropout();
        targetModules = c.targetModules();
        excludeModules = c.excludeModules();
        useRslora = c.useRslora();
        useDora = c.useDora();
        rankPattern = c.rankPattern();
        alphaPattern = c.alphaPattern();
        layersToTransform = c.layersToTransform();
        layersPattern = c.layersPattern();
        modulesToSave = c.modulesToSave();
        trainableTokenIndices = c.trainableTokenIndices();
        ensureWeightTying = c.ensureWeightTying();
        loraBias = c.loraBias();
        bias = c.bias();
        otherKeys = c.otherKeys();
        initWeights = c.initWeights();
    }

    public LoraConfigBuilder r(int rank) {
        r = rank;
        return this;
    }

    public LoraConfigBuilder loraAlpha(double alpha) {
        loraAlpha = alpha;
        return this;
    }

    public LoraConfigBuilder loraDropout(double dropout) {
        loraDropout = dropout;
        return this;
    }

    public LoraConfigBuilder targetModules(ModuleSelector selector) {
        targetModules = selector;
        return this;
    }

    public LoraConfigBuilder excludeModules(@Nullable ModuleSelector selector) {
        excludeModules = selector;
        return this;
    }

    public LoraConfigBuilder useRslora(boolean on) {
        useRslora = on;
        return this;
    }

    public LoraConfigBuilder useDora(boolean on) {
        useDora = on;
        return this;
    }

    public LoraConfigBuilder rankPattern(Map<String, Integer> patterns) {
        rankPattern = patterns;
        return this;
    }

    public LoraConfigBuilder alphaPattern(Map<String, Double> patterns) {
        alphaPattern = patterns;
        return this;
    }

    public LoraConfigBuilder layersToTransform(@Nullable List<Integer> layers) {
        layersToTransform = layers;
        return this;
    }

    public LoraConfigBuilder layersPattern(List<String> names) {
        layersPattern = names;
        return this;
    }

    public LoraConfigBuilder trainableTokenIndices(Map<String, List<Integer>> tokens) {
        trainableTokenIndices = tokens;
        return this;
    }

    /** True unless set: an output layer tied to a trained embedding follows it. */
    public LoraConfigBuilder ensureWeightTying(boolean on) {
        ensureWeightTying = on;
        return this;
    }

    public LoraConfigBuilder loraBias(boolean on) {
        loraBias = on;
        return this;
    }

    public LoraConfigBuilder bias(BiasTraining which) {
        bias = which;
        return this;
    }

    public LoraConfigBuilder otherKeys(Map<String, JsonNode> keys) {
        otherKeys = keys;
        return this;
    }

    public LoraConfigBuilder modulesToSave(Set<String> modules) {
        modulesToSave = modules;
        return this;
    }

    public LoraConfigBuilder initWeights(InitWeights how) {
        initWeights = how;
        return this;
    }

    /** @throws IllegalArgumentException if a value is out of range or two options exclude each other */
    public LoraConfig build() {
        return new LoraConfig(
                r,
                loraAlpha,
                loraDropout,
                targetModules,
                excludeModules,
                useRslora,
                useDora,
                rankPattern,
                alphaPattern,
                layersToTransform,
                layersPattern,
                modulesToSave,
                trainableTokenIndices,
                ensureWeightTying,
                loraBias,
                bias,
                initWeights,
                otherKeys);
    }
}
