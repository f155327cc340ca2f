package org.qlora4j.optim;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/** transformers' names of schedules ({@code lr_scheduler_type}) and their {@code lr_scheduler_kwargs}. */
public final class ScheduleNames {
    /** Every name with the arguments it takes. */
    private static final Map<String, Set<String>> ARGUMENTS = Map.of(
            "constant", Set.of(),
            "constant_with_warmup", Set.of(),
            "linear", Set.of(),
            "cosine", Set.of("num_cycles"),
            "cosine_with_restarts", Set.of("num_cycles"),
            "cosine_with_min_lr", Set.of("num_cycles", "min_lr", "min_lr_rate"),
            "polynomial", Set.of("lr_end", "power"),
            "inverse_sqrt", Set.of("timescale"),
            "warmup_stable_decay",
                    Set.of(
                            "num_decay_steps",
                            "num_stable_steps",
                            "warmup_type",
                            "decay_type",
                            "min_lr_ratio",
                            "num_cycles"));

    private ScheduleNames() {}

    /**
     * The schedule of a name.
     *
     * @param kwargs numbers and texts by transformers' names; what is not given has transformers' default
     * @param peak the peak rate, which {@code min_lr} is relative to
     * @throws IllegalArgumentException if the name or an argument is not supported; it lists those that are
     */
    public static Schedule schedule(String name, Map<String, ?> kwargs, double peak) {
        Set<String> known = ARGUMENTS.get(name);
        if (known == null) {
            throw new IllegalArgumentException("lr_scheduler_type '" + name + "' is not supported; supported: "
                    + String.join(", ", new TreeSet<>(ARGUMENTS.keySet())));
        }
        Map<String, Object> given = new HashMap<>(kwargs);
        for (String key : given.keySet()) {
            if (!known.contains(key)) {
                throw new IllegalArgumentException("lr_scheduler_kwargs: '" + key + "' is not an argument of " + name
                        + "; it takes: " + String.join(", ", new TreeSet<>(known)));
            }
        }
        return switch (name) {
            case "constant" -> new Schedule.Constant();
            case "constant_with_warmup" -> new Schedule.ConstantWithWarmup();
            case "linear" -> new Schedule.Linear();
            case "cosine" -> new Schedule.Cosine(number(given, "num_cycles", 0.5), 0);
            case "cosine_with_restarts" -> new Schedule.CosineWithRestarts(number(given, "num_cycles", 1.0));
            case "cosine_with_min_lr" -> new Schedule.Cosine(number(given, "num_cycles", 0.5), minLrRate(given, peak));
            case "polynomial" -> polynomial(number(given, "lr_end", 1e-7), number(given, "power", 1.0), peak);
            case "inverse_sqrt" -> new Schedule.InverseSqrt((int) number(given, "timescale", 0.0));
            default ->
                new Schedule.WarmupStableDecay(
                        (int) number(given, "num_decay_steps", null),
                        given.containsKey("num_stable_steps") ? (int) number(given, "num_stable_steps", null) : null,
                        Schedule.Ramp.of(String.valueOf(given.getOrDefault("warmup_type", "linear"))),
                        Schedule.Ramp.of(String.valueOf(given.getOrDefault("decay_type", "cosine"))),
                        number(given, "min_lr_ratio", 0.0),
                        number(given, "num_cycles", 0.5));
        };
    }

    private static double minLrRate(Map<String, Object> given, double peak) {
        if (given.containsKey("min_lr") == given.containsKey("min_lr_rate")) {
            throw new IllegalArgumentException(
                    "lr_scheduler_kwargs: cosine_with_min_lr needs either min_lr or min_lr_rate");
        }
        return given.containsKey("min_lr") ? number(given, "min_lr", null) / peak : number(given, "min_lr_rate", null);
    }

    private static Schedule polynomial(double lrEnd, double power, double peak) {
        if (lrEnd >= peak && peak > 0) {
            throw new IllegalArgumentException(
                    "lr_scheduler_kwargs: lr_end " + lrEnd + " must be below learning_rate " + peak);
        }
        return new Schedule.Polynomial(lrEnd, power);
    }

    /** @param otherwise the default; null if there is none */
    private static double number(Map<String, Object> given, String name, @Nullable Double otherwise) {
        Object value = given.get(name);
        if (value == null && otherwise != null) {
            return otherwise;
        }
        try {
            return Double.parseDouble(String.valueOf(value));
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(
                    "lr_scheduler_kwargs: " + name + " must be a number, got "
                            + (value == null ? "none" : "'" + value + "'"),
                    e);
        }
    }
}
