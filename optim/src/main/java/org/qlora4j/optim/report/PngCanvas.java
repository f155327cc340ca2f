package org.qlora4j.optim.report;

import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Font;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Line2D;
import java.awt.geom.Path2D;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.function.Consumer;
import javax.imageio.ImageIO;
import org.qlora4j.nf4.file.AtomicFile;

/** A chart as PNG, drawn without a screen. */
final class PngCanvas implements LineChart.Canvas {
    private final Graphics2D g;

    private PngCanvas(Graphics2D g) {
        this.g = g;
    }

    /** Writes what a chart draws. */
    static void write(Path file, Consumer<LineChart.Canvas> drawing) throws IOException {
        // without this a machine with DISPLAY set, but no screen, would fail
        System.setProperty("java.awt.headless", "true");
        BufferedImage image = new BufferedImage(LineChart.WIDTH, LineChart.HEIGHT, BufferedImage.TYPE_INT_RGB);
        Graphics2D g = image.createGraphics();
        try {
            g.setColor(Color.WHITE);
            g.fillRect(0, 0, LineChart.WIDTH, LineChart.HEIGHT);
            g.setRenderingHint(RenderingHints.KEY_ANTIALIASING, RenderingHints.VALUE_ANTIALIAS_ON);
            g.setRenderingHint(RenderingHints.KEY_TEXT_ANTIALIASING, RenderingHints.VALUE_TEXT_ANTIALIAS_ON);
            g.setFont(new Font(Font.SANS_SERIF, Font.PLAIN, 13));
            drawing.accept(new PngCanvas(g));
        } finally {
            g.dispose();
        }
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        ImageIO.write(image, "png", bytes);
        AtomicFile.write(file, out -> out.write(ByteBuffer.wrap(bytes.toByteArray())));
    }

    @Override
    public void line(double x1, double y1, double x2, double y2, String color) {
        g.setColor(Color.decode(color));
        g.setStroke(new BasicStroke(1));
        g.draw(new Line2D.Double(x1, y1, x2, y2));
    }

    @Override
    public void curve(double[] x, double[] y, String color) {
        Path2D path = new Path2D.Double();
        path.moveTo(x[0], y[0]);
        for (int i = 1; i < x.length; i++) {
            path.lineTo(x[i], y[i]);
        }
        g.setColor(Color.decode(color));
        g.setStroke(new BasicStroke(2, BasicStroke.CAP_ROUND, BasicStroke.JOIN_ROUND));
        g.draw(path);
    }

    @Override
    public void dot(double x, double y, String color) {
        g.setColor(Color.decode(color));
        g.fill(new Ellipse2D.Double(x - 4, y - 4, 8, 8));
    }

    @Override
    public void box(double x, double y, double width, double height, String color) {
        g.setColor(Color.decode(color));
        g.fill(new Rectangle2D.Double(x, y, width, height));
    }

    @Override
    public void text(String text, double x, double y, int align) {
        g.setColor(Color.DARK_GRAY);
        double width = g.getFontMetrics().stringWidth(text);
        g.drawString(text, (float) (x - width * (align + 1) / 2), (float) y);
    }
}
