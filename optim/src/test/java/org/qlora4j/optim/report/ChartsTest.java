package org.qlora4j.optim.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ChartsTest {
    private static final int FIRST = 0xFF7043;
    private static final int SECOND = 0x1E88E5;

    @TempDir
    Path folder;

    private static int pixels(BufferedImage image, int y, int color) {
        int count = 0;
        for (int x = 0; x < image.getWidth(); x++) {
            count += (image.getRGB(x, y) & 0xffffff) == color ? 1 : 0;
        }
        return count;
    }

    /** On two logarithmic axes y = x is straight: the middle one of three lies halfway. */
    @Test
    void linesGoWhereTheirNumbersAre() throws IOException {
        Path file = folder.resolve("lines.png");
        double[] x = {10, 100, 1000};
        Charts.lines(file, "title", "x", true, List.of(new Charts.Line("a", x, x)));
        BufferedImage image = ImageIO.read(file.toFile());
        int low = lowest(image, 120);
        int middle = lowest(image, (120 + 730) / 2);
        int high = lowest(image, 730);
        assertTrue(low > middle && middle > high, low + ", " + middle + ", " + high);
        assertEquals((low + high) / 2.0, middle, 3, low + ", " + middle + ", " + high);
    }

    /** Where a column of pixels has the first line's colour, from below: the legend is above. */
    private static int lowest(BufferedImage image, int column) {
        for (int y = image.getHeight() - 1; y >= 0; y--) {
            if ((image.getRGB(column, y) & 0xffffff) == FIRST) {
                return y;
            }
        }
        throw new AssertionError("no line at " + column);
    }

    @Test
    void barsAreAsLongAsTheirNumbers() throws IOException {
        Path file = folder.resolve("bars.png");
        Map<String, Double> values = new LinkedHashMap<>();
        values.put("long", 4.0);
        values.put("short", 1.0);
        Charts.bars(file, "title", "s", values);
        BufferedImage image = ImageIO.read(file.toFile());
        int first = pixels(image, 75, FIRST);
        int second = pixels(image, 109, FIRST);
        assertEquals(first / 4.0, second, 2, first + " and " + second);
        assertTrue(first > 300, "only " + first);
        assertEquals(0, pixels(image, 75, SECOND));
    }

    @Test
    void whatCannotBeDrawnIsRefused() {
        double[] one = {1};
        assertThrows(IllegalArgumentException.class, () -> new Charts.Line("a", one, new double[0]));
        assertThrows(IllegalArgumentException.class, () -> new Charts.Line("a", one, new double[] {-1}));
        assertThrows(IllegalArgumentException.class, () -> Charts.bars(folder, "t", "s", Map.of()));
        assertThrows(IllegalArgumentException.class, () -> Charts.bars(folder, "t", "s", Map.of("a", Double.NaN)));
    }
}
