package org.qlora4j.optim.report;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;
import java.util.stream.DoubleStream;
import org.qlora4j.optim.report.LineChart.Canvas;

/** Pictures of measurements: lines over a logarithmic axis, and bars. PNG, 800 × 500 pixels. */
public final class Charts {
    private static final String[] COLORS = {LineChart.SMOOTH, "#1E88E5", "#43A047", "#8E24AA"};
    private static final int LEFT = 90;
    private static final int RIGHT = LineChart.WIDTH - 40;
    private static final int TOP = 60;
    private static final int BOTTOM = LineChart.HEIGHT - 55;
    private static final int NAMES = 230;

    private Charts() {}

    /**
     * One line of a chart.
     *
     * @param name for the legend
     * @param x ascending and positive
     * @param y positive, one for each x
     */
    public record Line(String name, double[] x, double[] y) {
        public Line {
            boolean positive =
                    DoubleStream.concat(Arrays.stream(x), Arrays.stream(y)).allMatch(v -> v > 0 && Double.isFinite(v));
            if (x.length == 0 || x.length != y.length || !positive) {
                throw new IllegalArgumentException(
                        "line '" + name + "' must have as many y as x, at least one, all positive");
            }
        }
    }

    /**
     * Draws lines with a dot for each point; the x of the first line are its ticks.
     *
     * @param logY whether the y axis is logarithmic too; else it begins at 0
     */
    public static void lines(Path file, String title, String xLabel, boolean logY, List<Line> lines) {
        double[] xs = range(lines, Line::x);
        double[] ys = range(lines, Line::y);
        double lowX = Math.log(xs[0]);
        double highX = Math.log(xs[1]) > lowX ? Math.log(xs[1]) : lowX + 1;
        double lowY = logY ? Math.log(ys[0] / 1.5) : 0;
        double highY = logY ? Math.log(ys[1] * 1.5) : ys[1] * 1.1;
        ToDoubleFunction<Double> x = v -> LEFT + 30 + (Math.log(v) - lowX) / (highX - lowX) * (RIGHT - LEFT - 60);
        ToDoubleFunction<Double> y = v -> BOTTOM - ((logY ? Math.log(v) : v) - lowY) / (highY - lowY) * (BOTTOM - TOP);
        write(file, c -> {
            for (double tick : logY ? decades(ys) : evenly(ys[1] * 1.1)) {
                c.line(LEFT, y.applyAsDouble(tick), RIGHT, y.applyAsDouble(tick), LineChart.GRID);
                c.text(number(tick), LEFT - 8, y.applyAsDouble(tick) + 4, 1);
            }
            for (double tick : lines.getFirst().x()) {
                c.line(x.applyAsDouble(tick), TOP, x.applyAsDouble(tick), BOTTOM, LineChart.GRID);
                c.text(number(tick), x.applyAsDouble(tick), BOTTOM + 20, 0);
            }
            frame(c, title, xLabel, LEFT);
            for (int i = 0; i < lines.size(); i++) {
                Line line = lines.get(i);
                String color = COLORS[i % COLORS.length];
                double[] px = Arrays.stream(line.x()).map(x::applyAsDouble).toArray();
                double[] py = Arrays.stream(line.y()).map(y::applyAsDouble).toArray();
                c.curve(px, py, color);
                for (int p = 0; p < px.length; p++) {
                    c.dot(px[p], py[p], color);
                }
                int at = TOP + 16 + 20 * i;
                c.line(LEFT + 14, at, LEFT + 40, at, color);
                c.text(line.name(), LEFT + 47, at + 4, -1);
            }
        });
    }

    /** Draws a bar for each value, in the map's order, with its number and its share of their sum beside it. */
    public static void bars(Path file, String title, String unit, Map<String, Double> values) {
        double most = values.values().stream().mapToDouble(v -> v).max().orElse(0);
        double sum = values.values().stream().mapToDouble(v -> v).sum();
        if (!(most > 0) || !Double.isFinite(sum) || values.values().stream().anyMatch(v -> v < 0)) {
            throw new IllegalArgumentException("bars need numbers from 0 on, one of them positive, got " + values);
        }
        double height = Math.min(34.0, (BOTTOM - TOP) / (double) values.size());
        write(file, c -> {
            double at = TOP + 6;
            for (Map.Entry<String, Double> e : values.entrySet()) {
                double width = e.getValue() / most * (RIGHT - NAMES - 110);
                c.box(NAMES, at, width, height * 0.7, LineChart.SMOOTH);
                c.text(e.getKey(), NAMES - 8, at + height * 0.35 + 5, 1);
                c.text(
                        number(e.getValue()) + " " + unit + ", " + Math.round(100 * e.getValue() / sum) + " %",
                        NAMES + width + 8,
                        at + height * 0.35 + 5,
                        -1);
                at += height;
            }
            frame(c, title, unit, NAMES);
        });
    }

    private static void frame(Canvas c, String title, String xLabel, int left) {
        c.line(left, BOTTOM, RIGHT, BOTTOM, LineChart.INK);
        c.line(left, TOP, left, BOTTOM, LineChart.INK);
        c.text(title, LineChart.WIDTH / 2.0, TOP - 25, 0);
        c.text(xLabel, (left + RIGHT) / 2.0, LineChart.HEIGHT - 12, 0);
    }

    private static double[] range(List<Line> lines, Function<Line, double[]> values) {
        double[] all = lines.stream()
                .map(values)
                .flatMapToDouble(Arrays::stream)
                .sorted()
                .toArray();
        return new double[] {all[0], all[all.length - 1]};
    }

    /** 1, 2 and 5 times the powers of ten within a range. */
    private static double[] decades(double[] range) {
        return DoubleStream.iterate(
                        Math.pow(10, Math.floor(Math.log10(range[0]))), p -> p <= range[1] * 1.5, p -> p * 10)
                .flatMap(p -> DoubleStream.of(p, 2 * p, 5 * p))
                .filter(t -> t >= range[0] / 1.5 && t <= range[1] * 1.5)
                .toArray();
    }

    private static double[] evenly(double high) {
        double step = LineChart.tickStep(0, high);
        return DoubleStream.iterate(0, t -> t <= high, t -> t + step).toArray();
    }

    private static String number(double value) {
        if (value >= 100) {
            return String.valueOf(Math.round(value));
        }
        return LineChart.label(value, Math.pow(10, Math.floor(Math.log10(Math.max(value, 1e-9))) - 1));
    }

    private static void write(Path file, Consumer<Canvas> drawing) {
        try {
            PngCanvas.write(file, drawing);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + file + ": " + e, e);
        }
    }
}
