package org.qlora4j.optim.report;

import java.util.Locale;

/** A chart as SVG text that stands in a page. */
final class SvgCanvas implements LineChart.Canvas {
    private final StringBuilder svg = new StringBuilder(String.format(
            Locale.ROOT,
            "<svg viewBox=\"0 0 %d %d\" xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" font-size=\"13\">\n",
            LineChart.WIDTH,
            LineChart.HEIGHT));

    static String of(LineChart chart) {
        SvgCanvas canvas = new SvgCanvas();
        chart.draw(canvas);
        return canvas.svg.append("</svg>\n").toString();
    }

    private void add(String format, Object... values) {
        svg.append(String.format(Locale.ROOT, format, values)).append('\n');
    }

    @Override
    public void line(double x1, double y1, double x2, double y2, String color) {
        add("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>", x1, y1, x2, y2, color);
    }

    @Override
    public void curve(double[] x, double[] y, String color) {
        StringBuilder points = new StringBuilder();
        for (int i = 0; i < x.length; i++) {
            points.append(String.format(Locale.ROOT, "%.1f,%.1f ", x[i], y[i]));
        }
        add("<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" points=\"%s\"/>", color, points);
    }

    @Override
    public void dot(double x, double y, String color) {
        add("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>", x, y, color);
    }

    @Override
    public void box(double x, double y, double width, double height, String color) {
        add("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>", x, y, width, height, color);
    }

    @Override
    public void text(String text, double x, double y, int align) {
        add(
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>",
                x, y, align < 0 ? "start" : align > 0 ? "end" : "middle", HtmlReport.escape(text));
    }
}
