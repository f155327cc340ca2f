package org.qlora4j.optim.train;

import java.util.Map;

/** How fast steps are: for the progress line, and since the last log line. */
final class StepTimes {
    private final int first;
    private final int total;
    private final long started = System.nanoTime();
    private long lastStep = started;
    private long lastLog = started;
    private long tokensSinceLog;
    private int stepsSinceLog;
    private double tokensPerSecond;

    StepTimes(int first, int total) {
        this.first = first;
        this.total = total;
    }

    void step(long tokens) {
        long now = System.nanoTime();
        tokensPerSecond = tokens / ((now - lastStep) / 1e9);
        lastStep = now;
        tokensSinceLog += tokens;
        stepsSinceLog++;
    }

    /** Of the last step, with what came between it and the one before. */
    double tokensPerSecond() {
        return tokensPerSecond;
    }

    double secondsLeft(int done) {
        return (lastStep - started) / 1e9 / (done - first) * (total - done);
    }

    /** Adds the rates since the last call. */
    void addTo(Map<String, Object> values) {
        long now = System.nanoTime();
        double seconds = (now - lastLog) / 1e9;
        values.put("train_speed(s/it)", Trainer.round(seconds / stepsSinceLog));
        values.put("tokens_per_second", Trainer.round(tokensSinceLog / seconds));
        lastLog = now;
        tokensSinceLog = 0;
        stepsSinceLog = 0;
    }
}
