package org.qlora4j.optim;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.optim.OptimizerConfig.Layout;

/** transformers' names of optimizers ({@code optim}), and what its constants mean to each. */
public final class OptimizerNames {
    private static final Map<String, Entry> ENTRIES = entries();

    private OptimizerNames() {}

    private enum Family {
        ADAMW_TORCH(Set.of()),
        ADAMW(Set.of()),
        LION(Set.of()),
        SGD(Set.of("momentum")),
        RMSPROP(Set.of("alpha", "eps")),
        ADAGRAD(Set.of("eps")),
        ADEMAMIX(Set.of("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3"));

        /** What {@code optim_args} may set. */
        final Set<String> arguments;

        Family(Set<String> arguments) {
            this.arguments = arguments;
        }
    }

    private record Entry(Family family, boolean eightBit, boolean paged) {}

    private static Map<String, Entry> entries() {
        Map<String, Entry> map = new LinkedHashMap<>();
        put(map, Family.ADAMW_TORCH, false, false, "adamw_torch", "adamw_torch_fused");
        put(map, Family.ADAMW, true, false, "adamw_8bit", "adamw_bnb_8bit");
        put(map, Family.ADAMW, false, true, "paged_adamw_32bit", "paged_adamw");
        put(map, Family.ADAMW, true, true, "paged_adamw_8bit");
        put(map, Family.LION, false, false, "lion_32bit", "lion");
        put(map, Family.LION, true, false, "lion_8bit");
        put(map, Family.LION, false, true, "paged_lion_32bit");
        put(map, Family.LION, true, true, "paged_lion_8bit");
        put(map, Family.SGD, false, false, "sgd");
        put(map, Family.RMSPROP, false, false, "rmsprop", "rmsprop_bnb", "rmsprop_bnb_32bit");
        put(map, Family.RMSPROP, true, false, "rmsprop_bnb_8bit", "rmsprop_8bit");
        put(map, Family.ADAGRAD, false, false, "adagrad");
        put(map, Family.ADEMAMIX, false, false, "ademamix");
        put(map, Family.ADEMAMIX, true, false, "ademamix_8bit");
        put(map, Family.ADEMAMIX, false, true, "paged_ademamix_32bit");
        put(map, Family.ADEMAMIX, true, true, "paged_ademamix_8bit");
        return map;
    }

    private static void put(Map<String, Entry> map, Family family, boolean eightBit, boolean paged, String... names) {
        for (String name : names) {
            map.put(name, new Entry(family, eightBit, paged));
        }
    }

    /**
     * Constants that are options of their own.
     *
     * @param beta1 {@code adam_beta1}, also Lion's and AdEMAMix's first
     * @param beta2 {@code adam_beta2}, also Lion's and AdEMAMix's second
     * @param epsilon {@code adam_epsilon}, of AdamW and AdEMAMix
     * @param weightDecay {@code weight_decay} of all
     */
    public record Constants(double beta1, double beta2, double epsilon, double weightDecay) {}

    /**
     * The optimizer of a name, without clipping and LoRA+.
     *
     * @param optim transformers' name
     * @param arguments {@code optim_args}: {@code key=value,key=value}; may be empty. SGD takes momentum (default 0),
     *     RMSprop alpha (0.99) and eps (1e-8), Adagrad eps (1e-10), AdEMAMix beta1, beta2, beta3 (0.9999), alpha (5),
     *     eps, t_alpha and t_beta3 (0, constant); any 8-bit one {@code rounding=nearest} (bitsandbytes' GPU kernels,
     *     the default) or {@code rounding=table} (its CPU library, which also decays before the step)
     * @throws IllegalArgumentException if the name or an argument is not supported; it lists those that are
     */
    public static OptimizerConfig config(String optim, Constants constants, String arguments) {
        Entry entry = ENTRIES.get(optim);
        if (entry == null) {
            throw new IllegalArgumentException(
                    "optim '" + optim + "' is not supported; supported: " + String.join(", ", ENTRIES.keySet()));
        }
        Map<String, String> given = parse(arguments);
        Blockwise8.Rule rounding = rounding(given.remove("rounding"), entry.eightBit);
        Set<String> unknown = new TreeSet<>(given.keySet());
        unknown.removeAll(entry.family.arguments);
        if (!unknown.isEmpty()) {
            throw new IllegalArgumentException("optim_args: '" + String.join(", ", unknown) + "' is not an argument of "
                    + optim + "; it takes: " + String.join(", ", new TreeSet<>(entry.family.arguments)));
        }
        boolean decayFirst = rounding == Blockwise8.Rule.TABLE;
        double wd = constants.weightDecay;
        OptimizerRule rule = switch (entry.family) {
            case ADAMW_TORCH -> new OptimizerRule.AdamW(constants.beta1, constants.beta2, constants.epsilon, wd, true);
            case ADAMW -> new OptimizerRule.AdamW(constants.beta1, constants.beta2, constants.epsilon, wd, decayFirst);
            case LION -> new OptimizerRule.Lion(constants.beta1, constants.beta2, wd);
            case SGD -> new OptimizerRule.Sgd(number(given, "momentum", 0), wd);
            case RMSPROP -> new OptimizerRule.RmsProp(number(given, "alpha", 0.99), number(given, "eps", 1e-8), wd);
            case ADAGRAD -> new OptimizerRule.Adagrad(number(given, "eps", 1e-10), wd);
            case ADEMAMIX ->
                new OptimizerRule.AdEmaMix(
                        number(given, "beta1", constants.beta1),
                        number(given, "beta2", constants.beta2),
                        number(given, "beta3", 0.9999),
                        number(given, "alpha", 5),
                        number(given, "eps", constants.epsilon),
                        wd,
                        (int) number(given, "t_alpha", 0),
                        (int) number(given, "t_beta3", 0),
                        decayFirst);
        };
        return new OptimizerConfig(rule, new Layout(entry.eightBit, entry.paged, rounding), 0, 1);
    }

    private static Blockwise8.Rule rounding(@Nullable String text, boolean eightBit) {
        if (text == null || text.equals("nearest")) {
            return Blockwise8.Rule.NEAREST;
        }
        if (!text.equals("table") || !eightBit) {
            throw new IllegalArgumentException(
                    "optim_args: rounding is nearest or table, of 8-bit optimizers only; got '" + text + "'");
        }
        return Blockwise8.Rule.TABLE;
    }

    private static Map<String, String> parse(String arguments) {
        Map<String, String> map = new LinkedHashMap<>();
        for (String part : arguments.isBlank() ? new String[0] : arguments.split(",")) {
            int equals = part.indexOf('=');
            if (equals < 1) {
                throw new IllegalArgumentException(
                        "optim_args must be key=value,key=value, got '" + part.strip() + "'");
            }
            map.put(
                    part.substring(0, equals).strip(),
                    part.substring(equals + 1).strip());
        }
        return map;
    }

    private static double number(Map<String, String> given, String name, double otherwise) {
        String text = given.get(name);
        if (text == null) {
            return otherwise;
        }
        try {
            return Double.parseDouble(text);
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException("optim_args: " + name + " must be a number, got '" + text + "'", e);
        }
    }
}
