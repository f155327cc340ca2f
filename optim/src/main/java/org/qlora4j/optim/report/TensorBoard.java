package org.qlora4j.optim.report;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.file.Path;
import java.time.Clock;
import org.jspecify.annotations.Nullable;
import org.qlora4j.optim.train.LogEntry;
import org.qlora4j.optim.train.TrainingListener;

/**
 * Writes every number that is logged into TensorBoard's event files, under the tags transformers uses:
 * {@code train/loss}, {@code eval/loss} …
 */
public final class TensorBoard implements TrainingListener, AutoCloseable {
    private final Path folder;
    private final Clock clock;
    private @Nullable EventFile file;

    /**
     * Starts a new event file with the first entry.
     *
     * @param folder {@code runs} in a run's output folder; point TensorBoard's {@code --logdir} at it
     * @param clock for the wall times
     */
    public TensorBoard(Path folder, Clock clock) {
        this.folder = folder;
        this.clock = clock;
    }

    @Override
    public void logged(LogEntry entry) {
        double now = seconds();
        if (file == null) {
            file = new EventFile(folder, now, host());
        }
        EventFile to = file;
        entry.values().forEach((key, value) -> {
            if (value instanceof Number number) {
                to.scalar(Curves.tag(key), entry.step(), now, number.floatValue());
            }
        });
    }

    private double seconds() {
        return clock.millis() / 1e3;
    }

    private static String host() {
        try {
            return InetAddress.getLocalHost().getHostName().replace('/', '_');
        } catch (UnknownHostException e) {
            // the name tells files of several machines apart; without one the time still does
            return "localhost";
        }
    }

    @Override
    public void close() {
        if (file != null) {
            file.close();
        }
    }
}
