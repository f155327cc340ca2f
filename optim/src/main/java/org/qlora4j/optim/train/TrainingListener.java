package org.qlora4j.optim.train;

import java.nio.file.Path;

/** Is told how training goes, on the training thread. */
public interface TrainingListener {
    /** Nobody listens. */
    TrainingListener NONE = new TrainingListener() {};

    /**
     * After each optimizer step.
     *
     * @param tokensPerSecond of this step, all tokens counted
     * @param secondsLeft estimate for the rest
     */
    default void step(int step, int totalSteps, double loss, double tokensPerSecond, double secondsLeft) {}

    /** A line was logged. */
    default void logged(LogEntry entry) {}

    /** A step was left out because a number was not finite. @param why step, row and layer */
    default void skipped(String why) {}

    /** A checkpoint is whole on disk. */
    default void saved(Path checkpoint) {}
}
