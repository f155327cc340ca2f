package org.qlora4j.optim.train;

import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What a training run leaves.
 *
 * @param lastCheckpoint the last checkpoint
 * @param bestCheckpoint the one with the best metric; the last one if none was evaluated
 * @param bestMetric that metric; null if none was evaluated
 * @param steps optimizer steps done
 * @param logHistory all log lines
 */
public record TrainingResult(
        Path lastCheckpoint, Path bestCheckpoint, @Nullable Double bestMetric, int steps, List<LogEntry> logHistory) {}
