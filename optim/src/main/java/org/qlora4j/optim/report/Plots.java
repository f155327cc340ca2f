package org.qlora4j.optim.report;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.qlora4j.optim.train.LogEntry;

/** A PNG for each curve of a log, named as ms-swift names them: {@code images/train_loss.png} … */
public final class Plots {
    private Plots() {}

    /**
     * Writes the pictures. A machine without fonts cannot draw text: that is a warning, the run has succeeded all the
     * same.
     *
     * @param folder {@code images} in a run's output folder; created if missing
     * @return the files written
     */
    public static List<Path> write(List<LogEntry> log, Path folder) {
        List<Path> files = new ArrayList<>();
        try {
            Files.createDirectories(folder);
            for (Curves.Curve curve : Curves.of(log)) {
                Path file = folder.resolve(curve.tag().replace('/', '_').replace('.', '_') + ".png");
                PngCanvas.write(file, new LineChart(curve)::draw);
                files.add(file);
            }
        } catch (IOException | RuntimeException | LinkageError e) {
            System.getLogger(Plots.class.getName())
                    .log(
                            System.Logger.Level.WARNING,
                            "no pictures in " + folder + ": " + e
                                    + "; drawing text needs fontconfig and a font on this machine");
        }
        return files;
    }
}
