package org.qlora4j.optim;

import java.util.ArrayList;
import java.util.List;
import org.qlora4j.lora.adapter.TrainableParameters;
import org.qlora4j.nf4.tensor.Parameter;

/** Ranges of the flat parameters that share a learning rate. */
final class ParameterGroups {
    private ParameterGroups() {}

    /**
     * Parameters {@code first} to {@code first + count - 1}.
     *
     * @param rateFactor factor on the learning rate
     */
    record Group(int first, int count, double rateFactor) {}

    /**
     * As few ranges as LoRA+ needs: B and vectors (DoRA's magnitudes) are faster by the ratio, as in PEFT's
     * create_loraplus_optimizer.
     */
    static List<Group> of(TrainableParameters parameters, double loraPlusLrRatio) {
        int total = parameters.values().cols();
        int bytes = parameters.values().dtype().bytes();
        List<Group> groups = new ArrayList<>();
        int first = 0;
        double factor = 1;
        for (Parameter p : parameters.parameters()) {
            boolean fast = p.name().contains(".lora_B.") || p.name().endsWith("lora_magnitude_vector");
            double own = fast ? loraPlusLrRatio : 1;
            int start =
                    Math.toIntExact((p.value().address() - parameters.values().address()) / bytes);
            if (own != factor && start > first) {
                groups.add(new Group(first, start - first, factor));
                first = start;
            }
            factor = own;
        }
        groups.add(new Group(first, total - first, factor));
        return groups;
    }
}
