package org.qlora4j.optim.train;

import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What a training run leaves.
 *
 * @param lastCheckpoint the last checkpoint
 * @param bestCheckpoint the one with the lowest evaluation loss; the last one if there was no evaluation
 * @param bestMetric that loss; null if there was no evaluation
 * @param steps optimizer steps done
 * @param logHistory all log lines
 */
public record TrainingResult(
        Path lastCheckpoint, Path bestCheckpoint, @Nullable Double bestMetric, int steps, List<LogEntry> logHistory) {}
