package org.qlora4j.optim.train;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.optim.OptimizerNames;
import org.qlora4j.optim.Schedule;

/** A training run of the tiny model, with settings to vary. */
final class TinyRun {
    static final LoraConfig LORA = LoraConfig.allLinear(4, 16).withDropout(0.1);
    static final List<Batch.Row> EVAL_ROWS = rows(3, 5);

    private final Path outputDir;
    private TrainingConfig.Steps steps = new TrainingConfig.Steps(1, 9, 2, 2, true);
    private String optim = "adamw_torch";
    private double rate = 1e-2;
    private TrainingConfig.Regularization regularization = TrainingConfig.Regularization.NONE;
    private String metric = "loss";
    private int earlyStopInterval;
    private int evalSteps = 3;
    private int saveSteps = 3;
    private int packed = 1;
    private List<Batch.Row> rows = rows(11, 5);
    private List<Batch.Row> evalRows = EVAL_ROWS;
    private Consumer<Path> files = checkpoint -> {};
    private double dropout = LORA.loraDropout();

    TinyRun(Path outputDir) {
        this.outputDir = outputDir;
    }

    TinyRun steps(int maxSteps, int batch, int accumulation) {
        steps = new TrainingConfig.Steps(1, maxSteps, batch, accumulation, true);
        return this;
    }

    TinyRun optim(String name) {
        optim = name;
        return this;
    }

    TinyRun rate(double peak) {
        rate = peak;
        return this;
    }

    TinyRun regularization(double neftuneNoiseAlpha, double labelSmoothing) {
        regularization = new TrainingConfig.Regularization(neftuneNoiseAlpha, labelSmoothing);
        return this;
    }

    /** Stops after so many checkpoints and loads the best one. */
    TinyRun early(String byMetric, int interval) {
        metric = byMetric;
        earlyStopInterval = interval;
        return this;
    }

    TinyRun intervals(int eval, int save) {
        evalSteps = eval;
        saveSteps = save;
        return this;
    }

    /** So many rows in a place of a batch. */
    TinyRun packed(int count) {
        packed = count;
        return this;
    }

    TinyRun rows(List<Batch.Row> given) {
        rows = given;
        return this;
    }

    TinyRun evalRows(List<Batch.Row> given) {
        evalRows = given;
        return this;
    }

    TinyRun files(Consumer<Path> writer) {
        files = writer;
        return this;
    }

    /** Another dropout than {@link #LORA}'s. */
    TinyRun dropout(double other) {
        dropout = other;
        return this;
    }

    LoraConfig lora() {
        return LORA.withDropout(dropout);
    }

    /** Rows whose second half is the first half reversed: learnable, and not by bigrams. */
    static List<Batch.Row> rows(int count, long seed) {
        SplittableRandom random = new SplittableRandom(seed);
        List<Batch.Row> rows = new ArrayList<>();
        for (int r = 0; r < count; r++) {
            int half = 3 + r % 3;
            int[] ids = new int[2 * half];
            int[] labels = new int[2 * half];
            for (int i = 0; i < half; i++) {
                ids[i] = 10 + random.nextInt(6);
                ids[2 * half - 1 - i] = ids[i];
                labels[i] = Batch.IGNORED;
            }
            System.arraycopy(ids, half, labels, half, half);
            rows.add(new Batch.Row(ids, labels));
        }
        return rows;
    }

    TrainingConfig config() {
        return new TrainingConfig(
                steps,
                new TrainingConfig.Rate(new Schedule.Linear(), rate, 0.1, 0),
                OptimizerNames.config(optim, new OptimizerNames.Constants(0.9, 0.999, 1e-8, 0.01), "")
                        .withMaxGradNorm(1),
                regularization,
                new TrainingConfig.Evaluation(
                        2, evalSteps, metric, metric.endsWith("token_acc"), earlyStopInterval, earlyStopInterval > 0),
                new TrainingConfig.Saving(outputDir, 1, saveSteps, 2),
                42);
    }

    Trainer trainer(LoraAdapter adapter, TrainingListener listener) {
        List<List<Batch.Row>> packs = new ArrayList<>();
        for (int i = 0; i < rows.size(); i += packed) {
            packs.add(rows.subList(i, Math.min(rows.size(), i + packed)));
        }
        return new Trainer(adapter, config(), packs, evalRows, "tiny", files, listener);
    }
}
