package org.qlora4j.optim.report;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.Arrays;
import java.util.Locale;
import org.qlora4j.optim.report.Curves.Curve;

/** Draws one curve in ms-swift's manner: where values are noisy, pale ones and their moving average over them. */
final class LineChart {
    static final int WIDTH = 800;
    static final int HEIGHT = 500;
    static final String RAW = "#FFE2D9";
    static final String SMOOTH = "#FF7043";
    static final String INK = "#333333";
    static final String GRID = "#E6E6E6";
    private static final int LEFT = 90;
    private static final int RIGHT = 25;
    private static final int TOP = 45;
    private static final int BOTTOM = 55;
    private static final int TICKS = 6;

    /** What a chart is drawn on. Pixels from the top left. */
    interface Canvas {
        void line(double x1, double y1, double x2, double y2, String color);

        void curve(double[] x, double[] y, String color);

        void dot(double x, double y, String color);

        /** Filled, from its upper left corner. */
        void box(double x, double y, double width, double height, String color);

        /** @param align -1 starts at x, 0 is centred on it, 1 ends there */
        void text(String text, double x, double y, int align);
    }

    private final Curve curve;
    private final double[] smooth;
    private final double lowX;
    private final double highX;
    private final double lowY;
    private final double highY;

    LineChart(Curve curve) {
        this.curve = curve;
        this.smooth = curve.smoothed();
        double[] xs = range(curve.steps());
        double[] ys = range(curve.values());
        lowX = xs[0];
        highX = xs[1];
        lowY = ys[0];
        highY = ys[1];
    }

    /** Lowest and highest value with a margin; a single value gets one to both sides. */
    private static double[] range(double[] values) {
        double low = Arrays.stream(values).min().orElse(0);
        double high = Arrays.stream(values).max().orElse(1);
        double margin = high > low ? (high - low) * 0.04 : Math.max(Math.abs(high) * 0.1, 1e-9);
        return new double[] {low - margin, high + margin};
    }

    void draw(Canvas c) {
        double step = tickStep(lowY, highY);
        for (double t = Math.ceil(lowY / step) * step; t <= highY; t += step) {
            c.line(LEFT, y(t), WIDTH - RIGHT, y(t), GRID);
            c.text(label(t, step), LEFT - 8, y(t) + 4, 1);
        }
        double xStep = Math.max(1, tickStep(lowX, highX));
        for (double t = Math.ceil(lowX / xStep) * xStep; t <= highX; t += xStep) {
            c.line(x(t), TOP, x(t), HEIGHT - BOTTOM, GRID);
            c.text(label(t, xStep), x(t), HEIGHT - BOTTOM + 20, 0);
        }
        c.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, INK);
        c.line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, INK);
        c.text(curve.tag(), WIDTH / 2.0, TOP - 18, 0);
        c.text("step", WIDTH / 2.0, HEIGHT - 12, 0);
        double[] xs = Arrays.stream(curve.steps()).map(this::x).toArray();
        if (xs.length == 1) {
            c.dot(xs[0], y(curve.values()[0]), SMOOTH);
            return;
        }
        double[] ys = Arrays.stream(curve.values()).map(this::y).toArray();
        if (!curve.isNoisy()) {
            c.curve(xs, ys, SMOOTH);
            return;
        }
        c.curve(xs, ys, RAW);
        c.curve(xs, Arrays.stream(smooth).map(this::y).toArray(), SMOOTH);
        c.line(WIDTH - RIGHT - 120, TOP + 14, WIDTH - RIGHT - 95, TOP + 14, SMOOTH);
        c.text("smoothed", WIDTH - RIGHT - 88, TOP + 18, -1);
    }

    private double x(double v) {
        return LEFT + (v - lowX) / (highX - lowX) * (WIDTH - LEFT - RIGHT);
    }

    private double y(double v) {
        return HEIGHT - BOTTOM - (v - lowY) / (highY - lowY) * (HEIGHT - TOP - BOTTOM);
    }

    /** 1, 2 or 5 times a power of ten. */
    static double tickStep(double low, double high) {
        double raw = (high - low) / TICKS;
        double power = Math.pow(10, Math.floor(Math.log10(raw)));
        double factor = raw / power;
        return power * (factor <= 1 ? 1 : factor <= 2 ? 2 : factor <= 5 ? 5 : 10);
    }

    /** The tick with as many digits as its distance to the next one needs. */
    static String label(double value, double step) {
        if (Math.abs(value) < step / 1e6) {
            return "0";
        }
        int digits = Math.max(1, (int) Math.floor(Math.log10(Math.abs(value)) - Math.log10(step)) + 2);
        BigDecimal rounded =
                new BigDecimal(value).round(new MathContext(digits)).stripTrailingZeros();
        double size = Math.abs(value);
        return size >= 1e-3 && size < 1e6
                ? rounded.toPlainString()
                : String.format(Locale.ROOT, "%." + (rounded.precision() - 1) + "e", rounded.doubleValue());
    }
}
