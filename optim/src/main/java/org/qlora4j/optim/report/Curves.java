package org.qlora4j.optim.report;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.qlora4j.optim.train.LogEntry;

/** The numbers of a log, one curve for each. */
public final class Curves {
    /** Weight of the past in the smoothed curve, as in ms-swift. */
    private static final double SMOOTHING = 0.9;

    private static final Set<String> NOISY = Set.of("train/loss", "train/token_acc", "train/grad_norm");

    private Curves() {}

    /**
     * A curve.
     *
     * @param tag {@code train/loss} …
     * @param steps ascending
     * @param values one for each step
     */
    public record Curve(String tag, double[] steps, double[] values) {
        /** Exponential moving average without a bias to the first values, as TensorBoard's. */
        public double[] smoothed() {
            double[] smooth = new double[values.length];
            double sum = 0;
            double weights = 0;
            for (int i = 0; i < smooth.length; i++) {
                sum = SMOOTHING * sum + values[i];
                weights = SMOOTHING * weights + 1;
                smooth[i] = sum / weights;
            }
            return smooth;
        }

        /** Whether it changes from step to step by chance, so that the average is what tells. */
        boolean isNoisy() {
            return NOISY.contains(tag);
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
