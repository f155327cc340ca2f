package org.qlora4j.optim.report;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import javax.imageio.ImageIO;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.train.LogEntry;

/** What a run leaves for people. samples/scripts/check_tensorboard.py has the real TensorBoard read a run. */
class ReportTest {
    @TempDir
    Path folder;

    private static List<LogEntry> log(int entries) {
        java.util.ArrayList<LogEntry> log = new java.util.ArrayList<>();
        for (int i = 1; i <= entries; i++) {
            log.add(new LogEntry(i, Map.of("loss", 2.0 / i, "global_step/max_steps", i + "/" + entries)));
            if (i % 5 == 0) {
                log.add(new LogEntry(i, Map.of("eval_loss", 3.0 / i, "epoch", 0.5)));
            }
        }
        return log;
    }

    @Test
    void bytesAreThoseOfTensorBoardsOwnWriter() throws IOException {
        try (EventFile file = new EventFile(folder, 1.5, "host")) {
            file.scalar("train/loss", 300, 2.25, 0.5f);
        }
        // tensorboard 2.21.0: RecordWriter of Event(1.5, "brain.Event:2") and Event(2.25, 300, train/loss 0.5)
        assertEquals(
                "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
                        + "2100000000000000017becf609000000000000024010ac022a130a110a0a747261696e2f6c6f7373150000003fd2017983",
                HexFormat.of().formatHex(Files.readAllBytes(folder.resolve("events.out.tfevents.1.host"))));
    }

    @Test
    void numbersGoToTensorBoardUnderTransformersTags() throws IOException {
        Path runs = folder.resolve("runs");
        try (TensorBoard board = new TensorBoard(runs, Clock.fixed(Instant.ofEpochSecond(7), ZoneOffset.UTC))) {
            board.logged(new LogEntry(5, Map.of("loss", 1.5, "global_step/max_steps", "5/9")));
            board.logged(new LogEntry(5, Map.of("eval_loss", 2)));
        }
        try (var files = Files.list(runs)) {
            Path file = files.findFirst().orElseThrow();
            assertTrue(file.getFileName().toString().startsWith("events.out.tfevents.7."), file.toString());
            String text = Files.readString(file, java.nio.charset.StandardCharsets.ISO_8859_1);
            assertTrue(text.contains("train/loss") && text.contains("eval/loss") && !text.contains("max_steps"), text);
        }
    }

    @Test
    void curvesSplitTrainingFromEvaluation() {
        List<Curves.Curve> curves = Curves.of(log(10));
        assertEquals(
                List.of("train/loss", "eval/loss"),
                curves.stream().map(Curves.Curve::tag).toList());
        assertArrayEquals(new double[] {5, 10}, curves.get(1).steps());
        double[] smooth = new Curves.Curve("t", new double[] {1, 2}, new double[] {1, 2}).smoothed();
        assertArrayEquals(new double[] {1, (0.9 + 2) / 1.9}, smooth, 1e-12);
    }

    @Test
    void ticksAreRoundNumbers() {
        assertEquals(0.5, LineChart.tickStep(0, 2.4), 1e-12);
        assertEquals(2e-5, LineChart.tickStep(0, 1e-4), 1e-12);
        assertEquals("0.5", LineChart.label(0.5, 0.5));
        assertEquals("2e-05", LineChart.label(2e-5, 2e-5));
        assertEquals("100", LineChart.label(100.00000000001, 20));
        assertEquals("0", LineChart.label(1e-18, 0.1));
    }

    @Test
    void picturesHaveMsSwiftsNamesSizeAndColours() throws IOException {
        List<Path> files = Plots.write(log(20), folder.resolve("images"));
        assertEquals(
                List.of("train_loss.png", "eval_loss.png"),
                files.stream().map(f -> f.getFileName().toString()).toList());
        BufferedImage image = ImageIO.read(files.getFirst().toFile());
        assertEquals(800, image.getWidth());
        assertEquals(500, image.getHeight());
        int smooth = 0;
        int raw = 0;
        for (int y = 0; y < image.getHeight(); y++) {
            for (int x = 0; x < image.getWidth(); x++) {
                smooth += (image.getRGB(x, y) & 0xffffff) == 0xFF7043 ? 1 : 0;
                raw += (image.getRGB(x, y) & 0xffffff) == 0xFFE2D9 ? 1 : 0;
            }
        }
        assertTrue(smooth > 300 && raw > 300, smooth + " smoothed and " + raw + " raw pixels");
    }

    @Test
    void aSingleValueIsADot() throws IOException {
        assertEquals(2, Plots.write(log(5), folder).size());
        String svg = SvgCanvas.of(new LineChart(new Curves.Curve("eval/loss", new double[] {5}, new double[] {1})));
        assertTrue(svg.contains("<circle"), svg);
        assertFalse(svg.contains("NaN") || svg.contains("Infinity"), svg);
    }

    @Test
    void thePageIsWellFormedAndNeedsNothingElse() throws Exception {
        Path page = folder.resolve("report.html");
        new HtmlReport(
                        "v0 <model> & more",
                        log(20),
                        Map.of("steps", "20"),
                        new MemoryEstimate(
                                List.of(new MemoryEstimate.Item("runtime", "Java", 1 << 20)),
                                new MemoryEstimate.Parameters(1, 1, 1, 1)),
                        Map.of("process", 2L << 20),
                        Map.of("train rows", "7"),
                        Map.of("system", "<script>alert(1)</script>"),
                        List.of(new HtmlReport.Sample("Who?", "<b>old</b>", "new")))
                .write(page);
        String html = Files.readString(page);
        assertFalse(html.contains("<script") || html.contains("<b>") || html.contains("src="), html);
        assertFalse(html.replace("http://www.w3.org/2000/svg", "").contains("http"), html);
        var document = DocumentBuilderFactory.newInstance()
                .newDocumentBuilder()
                .parse(new org.xml.sax.InputSource(new java.io.StringReader(
                        html.replace("<!DOCTYPE html>", "").replace("<meta charset=\"utf-8\">", ""))));
        assertEquals(2, document.getElementsByTagName("svg").getLength());
        assertEquals(3, document.getElementsByTagName("polyline").getLength(), "the loss is smoothed");
    }
}
