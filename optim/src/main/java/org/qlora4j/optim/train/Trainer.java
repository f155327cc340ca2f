package org.qlora4j.optim.train;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeSet;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.data.Permutation;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Dropout;
import org.qlora4j.optim.LearningRate;
import org.qlora4j.optim.Optimizer;

/**
 * The training loop. The loss of an optimizer step is the mean over all label tokens of its accumulated rows, whatever
 * the number of passes. The same seed, device and number of threads give the same bits, and so does a run that was
 * stopped and resumed. One thread, the device's.
 */
public final class Trainer implements AutoCloseable {
    private final Transformer model;
    private final LoraAdapter adapter;
    private final TrainingConfig config;
    private final List<Batch.Row> rows;
    private final List<Batch.Row> evalRows;
    private final String baseModel;
    private final TrainingListener listener;
    private final Consumer<Path> checkpointFiles;
    private final Optimizer optimizer;
    private final int totalSteps;
    private final LearningRate learningRate;

    private TrainerCheckpoint.State state = new TrainerCheckpoint.State(0, null, null, List.of());

    /**
     * A trainer.
     *
     * @param rows to learn from, each with at least one label
     * @param evalRows to evaluate on; may be empty
     * @param baseModel written into the adapter's base_model_name_or_path
     * @param checkpointFiles writes tokenizer and other files into each checkpoint
     */
    public Trainer(
            LoraAdapter adapter,
            TrainingConfig config,
            List<Batch.Row> rows,
            List<Batch.Row> evalRows,
            String baseModel,
            Consumer<Path> checkpointFiles,
            TrainingListener listener) {
        if (rows.isEmpty()) {
            throw new IllegalArgumentException("there are no rows to train on");
        }
        this.model = adapter.model();
        this.adapter = adapter;
        this.config = config;
        this.rows = List.copyOf(rows);
        this.evalRows = List.copyOf(evalRows);
        this.baseModel = baseModel;
        this.checkpointFiles = checkpointFiles;
        this.listener = listener;
        this.totalSteps = config.totalSteps(rows.size());
        this.learningRate = config.schedule(rows.size());
        this.optimizer = new Optimizer(model.device(), adapter.parameters(), config.optimizer(), config.outputDir());
    }

    /** Optimizer steps of the whole run. */
    public int totalSteps() {
        return totalSteps;
    }

    /** Takes up a run where a checkpoint left it; data and configuration must be those of that run. */
    public void resume(Path checkpoint) {
        state = TrainerCheckpoint.resume(checkpoint, adapter, optimizer);
        if (state.step() >= totalSteps) {
            throw new IllegalArgumentException(checkpoint + " has done all " + totalSteps
                    + " steps already; raise num_train_epochs or max_steps to go on");
        }
    }

    /** Trains to the end. @throws ArithmeticException if a loss or gradient is not finite; names the step */
    public TrainingResult run() {
        List<LogEntry> log = new ArrayList<>(state.log());
        Double bestMetric = state.bestMetric();
        Integer bestStep = state.bestStep();
        double lossSum = 0;
        int lossSteps = 0;
        long tokensSinceLog = 0;
        long started = System.nanoTime();
        long lastLog = started;
        int first = state.step();
        Path last = TrainerCheckpoint.folder(config.outputDir(), first);
        for (int step = first; step < totalSteps; step++) {
            long stepStart = System.nanoTime();
            List<Batch> passes = passes(step);
            double rate = learningRate.at(step);
            double loss = accumulate(passes, step);
            double norm;
            try {
                norm = optimizer.step(rate);
            } catch (ArithmeticException e) {
                throw new ArithmeticException("step " + (step + 1) + ": " + e.getMessage()
                        + "; lower learning_rate or look at the rows of this step");
            }
            int done = step + 1;
            long tokens = passes.stream().mapToLong(Batch::tokens).sum();
            tokensSinceLog += tokens;
            lossSum += loss;
            lossSteps++;
            long now = System.nanoTime();
            listener.step(
                    done,
                    totalSteps,
                    loss,
                    tokens / ((now - stepStart) / 1e9),
                    (now - started) / 1e9 / (done - first) * (totalSteps - done));
            if (done == 1 || done % config.loggingSteps() == 0 || done == totalSteps) {
                double seconds = (now - lastLog) / 1e9;
                Map<String, Object> values = new LinkedHashMap<>();
                values.put("loss", lossSum / lossSteps);
                values.put("grad_norm", norm);
                values.put("learning_rate", rate);
                addPosition(values, done);
                values.put("memory(GiB)", round(model.device().peakBytes() / (double) (1 << 30)));
                values.put("train_speed(s/it)", round(seconds / lossSteps));
                values.put("tokens_per_second", round(tokensSinceLog / seconds));
                log(log, new LogEntry(done, values));
                lossSum = 0;
                lossSteps = 0;
                tokensSinceLog = 0;
                lastLog = now;
            }
            boolean end = done == totalSteps;
            if (!evalRows.isEmpty() && (end || config.evalSteps() > 0 && done % config.evalSteps() == 0)) {
                double evalLoss = evaluate();
                Map<String, Object> values = new LinkedHashMap<>();
                values.put("eval_loss", evalLoss);
                addPosition(values, done);
                log(log, new LogEntry(done, values));
                if (bestMetric == null || evalLoss < bestMetric) {
                    bestMetric = evalLoss;
                    bestStep = done;
                }
            }
            if (end || done % config.saveSteps() == 0) {
                state = new TrainerCheckpoint.State(done, bestMetric, bestStep, List.copyOf(log));
                last = TrainerCheckpoint.save(
                        config.outputDir(), adapter, optimizer, baseModel, state, checkpointFiles);
                listener.saved(last);
                removeOld(done, bestStep);
            }
        }
        Path best = bestStep == null ? last : TrainerCheckpoint.folder(config.outputDir(), bestStep);
        return new TrainingResult(
                last, Files.isDirectory(best) ? best : last, bestMetric, totalSteps, List.copyOf(log));
    }

    /**
     * Forward and backward of all passes of a step; the gradients are those of the mean over all their label tokens.
     */
    private double accumulate(List<Batch> passes, int step) {
        adapter.parameters().zeroGradients();
        int labels = passes.stream().mapToInt(Batch::labelTokens).sum();
        double sum = 0;
        for (int i = 0; i < passes.size(); i++) {
            long seed = Dropout.mix(config.seed(), (long) step * config.gradientAccumulationSteps() + i);
            for (float loss : model.gradients(passes.get(i), 1.0 / labels, seed)) {
                sum += loss;
            }
        }
        if (!Double.isFinite(sum)) {
            throw new ArithmeticException("step " + (step + 1) + ": the loss is " + sum / labels
                    + "; lower learning_rate or look at the rows of this step");
        }
        return sum / labels;
    }

    /** The rows of a step: a function of seed and step alone, so that a resumed run sees the same. */
    private List<Batch> passes(int step) {
        int perEpoch = config.stepsPerEpoch(rows.size());
        int epoch = step / perEpoch;
        int[] order = order(epoch);
        List<Batch> passes = new ArrayList<>();
        for (int i = 0; i < config.gradientAccumulationSteps(); i++) {
            int from = (step % perEpoch * config.gradientAccumulationSteps() + i) * config.trainBatchSize();
            int to = Math.min(rows.size(), from + config.trainBatchSize());
            if (from < to) {
                List<Batch.Row> batch = new ArrayList<>();
                for (int r = from; r < to; r++) {
                    batch.add(rows.get(order[r]));
                }
                passes.add(new Batch(batch));
            }
        }
        return passes;
    }

    private int[] order(int epoch) {
        if (config.shuffle()) {
            return Permutation.of(rows.size(), new SplittableRandom(Dropout.mix(config.seed(), ~epoch)));
        }
        int[] order = new int[rows.size()];
        for (int i = 0; i < order.length; i++) {
            order[i] = i;
        }
        return order;
    }

    /** Mean loss over all label tokens of the evaluation rows. */
    private double evaluate() {
        double sum = 0;
        long labels = 0;
        for (int i = 0; i < evalRows.size(); i += config.evalBatchSize()) {
            Batch batch = new Batch(evalRows.subList(i, Math.min(evalRows.size(), i + config.evalBatchSize())));
            for (float loss : model.losses(batch)) {
                sum += loss;
            }
            labels += batch.labelTokens();
        }
        return sum / labels;
    }

    private void addPosition(Map<String, Object> values, int done) {
        values.put("epoch", round(done / (double) config.stepsPerEpoch(rows.size())));
        values.put("global_step/max_steps", done + "/" + totalSteps);
    }

    private static double round(double v) {
        return Math.round(v * 1e4) / 1e4;
    }

    private void log(List<LogEntry> log, LogEntry entry) {
        log.add(entry);
        ObjectNode line = JsonNodeFactory.instance.objectNode();
        entry.values().forEach(line::putPOJO);
        try {
            Files.createDirectories(config.outputDir());
            Files.writeString(
                    config.outputDir().resolve("logging.jsonl"),
                    line + "\n",
                    StandardOpenOption.CREATE,
                    StandardOpenOption.APPEND);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + config.outputDir().resolve("logging.jsonl") + ": " + e, e);
        }
        listener.logged(entry);
    }

    private void removeOld(int newest, @Nullable Integer bestStep) {
        if (config.saveTotalLimit() == 0) {
            return;
        }
        try (var folders = Files.list(config.outputDir())) {
            TreeSet<Integer> steps = new TreeSet<>();
            folders.map(f -> f.getFileName().toString())
                    .filter(n -> n.matches("checkpoint-\\d{1,9}"))
                    .forEach(n -> steps.add(Integer.valueOf(n.substring("checkpoint-".length()))));
            for (int step : List.copyOf(steps)) {
                boolean kept = step == newest || bestStep != null && step == bestStep;
                if (steps.size() > config.saveTotalLimit() && !kept) {
                    TrainerCheckpoint.deleteTree(TrainerCheckpoint.folder(config.outputDir(), step));
                    steps.remove(step);
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot remove old checkpoints in " + config.outputDir() + ": " + e, e);
        }
    }

    /** Frees the optimizer's state; the adapter stays. */
    @Override
    public void close() {
        optimizer.close();
    }
}
