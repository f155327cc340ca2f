package org.qlora4j.optim.report;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.qlora4j.optim.train.LogEntry;

/** The numbers of a log, one curve for each. */
public final class Curves {
    /** Share of the old value in the smoothed curve, as in ms-swift. */
    private static final double SMOOTHING = 0.9;

    private Curves() {}

    /**
     * A curve.
     *
     * @param tag {@code train/loss} …
     * @param steps ascending
     * @param values one for each step
     */
    public record Curve(String tag, double[] steps, double[] values) {
        /** Exponential moving average, which starts at the first value. */
        public double[] smoothed() {
            double[] smooth = values.clone();
            for (int i = 1; i < smooth.length; i++) {
                smooth[i] = SMOOTHING * smooth[i - 1] + (1 - SMOOTHING) * values[i];
            }
            return smooth;
        }
    }

    /** transformers' tag of a key: {@code eval_loss} is {@code eval/loss}, {@code loss} is {@code train/loss}. */
    static String tag(String key) {
        return key.startsWith("eval_") ? "eval/" + key.substring("eval_".length()) : "train/" + key;
    }

    /** All curves of a log, in the order of their first values. */
    public static List<Curve> of(List<LogEntry> log) {
        Map<String, List<double[]>> points = new LinkedHashMap<>();
        for (LogEntry entry : log) {
            boolean evaluation = entry.values().keySet().stream().anyMatch(k -> k.startsWith("eval_"));
            entry.values().forEach((key, value) -> {
                // an evaluation's own epoch would put a second point at the step of a training entry
                boolean own = !evaluation || key.startsWith("eval_");
                if (own && value instanceof Number number && Double.isFinite(number.doubleValue())) {
                    points.computeIfAbsent(tag(key), k -> new ArrayList<>())
                            .add(new double[] {entry.step(), number.doubleValue()});
                }
            });
        }
        List<Curve> curves = new ArrayList<>();
        points.forEach((tag, list) -> curves.add(new Curve(
                tag,
                list.stream().mapToDouble(p -> p[0]).toArray(),
                list.stream().mapToDouble(p -> p[1]).toArray())));
        return curves;
    }
}
