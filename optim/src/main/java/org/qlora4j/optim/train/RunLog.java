package org.qlora4j.optim.train;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.file.AtomicFile;

/** logging.jsonl, and the same lines in memory for the checkpoints. */
final class RunLog {
    private final @Nullable Path file;
    private final TrainingListener listener;
    private final List<LogEntry> entries;

    /**
     * @param entries lines of the run so far, to be added to; the file is made to have exactly these, as a killed run
     *     may have left more
     */
    RunLog(Path outputDir, List<LogEntry> entries, TrainingListener listener) {
        Path log = outputDir.resolve("logging.jsonl");
        this.file = log;
        this.listener = listener;
        this.entries = entries;
        if (!entries.isEmpty() || Files.exists(log)) {
            StringBuilder lines = new StringBuilder();
            entries.forEach(entry -> lines.append(line(entry)));
            AtomicFile.writeString(log, lines.toString());
        }
    }

    private RunLog(List<LogEntry> entries) {
        this.file = null;
        this.listener = TrainingListener.NONE;
        this.entries = entries;
    }

    /** In memory only. */
    static RunLog nowhere(List<LogEntry> entries) {
        return new RunLog(entries);
    }

    private static String line(LogEntry entry) {
        ObjectNode line = JsonNodeFactory.instance.objectNode();
        entry.values().forEach(line::putPOJO);
        return line + "\n";
    }

    void add(LogEntry entry) {
        entries.add(entry);
        if (file == null) {
            return;
        }
        try {
            Files.writeString(file, line(entry), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + file + ": " + e, e);
        }
        listener.logged(entry);
    }
}
