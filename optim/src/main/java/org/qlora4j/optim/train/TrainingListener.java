package org.qlora4j.optim.train;

import java.nio.file.Path;
import java.util.List;

/** Is told how training goes, on the training thread. */
public interface TrainingListener {
    /** Tells several listeners, in this order. */
    static TrainingListener all(List<TrainingListener> listeners) {
        return new TrainingListener() {
            @Override
            public void starts() {
                listeners.forEach(TrainingListener::starts);
            }

            @Override
            public void step(int step, int totalSteps, double loss, double tokensPerSecond, double secondsLeft) {
                listeners.forEach(l -> l.step(step, totalSteps, loss, tokensPerSecond, secondsLeft));
            }

            @Override
            public void logged(LogEntry entry) {
                listeners.forEach(l -> l.logged(entry));
            }

            @Override
            public void skipped(String why) {
                listeners.forEach(l -> l.skipped(why));
            }

            @Override
            public void saved(Path checkpoint) {
                listeners.forEach(l -> l.saved(checkpoint));
            }
        };
    }

    /** Nobody listens. */
    TrainingListener NONE = new TrainingListener() {};

    /** The first step is about to begin; when a run is taken up again, the first one of the rest. */
    default void starts() {}

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
