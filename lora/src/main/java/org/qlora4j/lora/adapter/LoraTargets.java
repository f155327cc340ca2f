package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.Transformer;

/** Which layers of a model a configuration names. */
final class LoraTargets {
    private static final Pattern LAYER = Pattern.compile(".*?\\.layers\\.(\\d+)\\..*");

    private LoraTargets() {}

    /**
     * The layers that get LoRA, in the order of a forward pass.
     *
     * @throws IllegalArgumentException if a target matches no linear layer; the message lists the names that exist
     */
    static List<Linear> lora(Transformer model, LoraConfig config) {
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

    /** The layers that are trained whole. @throws IllegalArgumentException if one is not supported */
    static List<Linear> saved(Transformer model, LoraConfig config) {
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
}
