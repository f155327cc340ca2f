package org.qlora4j.optim.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.file.FolderLock;
import org.qlora4j.nf4.parallel.Agreement;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.nf4.parallel.Communicator.Reduction;
import org.qlora4j.nf4.tensor.Parameter;
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
    private final List<List<Batch.Row>> packs;
    private final List<Batch.Row> evalRows;
    private final String baseModel;
    private final Consumer<Path> checkpointFiles;
    private final TrainingListener listener;
    private final Optimizer optimizer;
    private final DataOrder order;
    private final LearningRate learningRate;
    private final Communicator communicator;
    private final GradientSum gradients;
    private final Step step;
    private final Checkpoints checkpoints;
    private final @Nullable FolderLock lock;
    private TrainerState state;

    private boolean cutShort;
    private volatile boolean stopping;

    /**
     * A trainer.
     *
     * @param packs to learn from: rows that take one place of a batch together, at least one label in each;
     *     {@link #unpacked} for a row a place
     * @param evalRows to evaluate on; may be empty
     * @param baseModel written into the adapter's base_model_name_or_path
     * @param checkpointFiles writes tokenizer and other files into each checkpoint
     * @throws IllegalArgumentException also if another trainer writes into the output folder
     */
    public Trainer(
            LoraAdapter adapter,
            TrainingConfig config,
            List<List<Batch.Row>> packs,
            List<Batch.Row> evalRows,
            String baseModel,
            Consumer<Path> checkpointFiles,
            TrainingListener listener) {
        this(
                adapter,
                config,
                packs,
                evalRows,
                baseModel,
                checkpointFiles,
                listener,
                Communicator.SINGLE,
                Reduction.TREE);
    }

    /**
     * One of several ranks' trainers; each has the same base, adapter, configuration and rows. The bits are those of a
     * run of one process with the same number of threads, if the reduction is {@link Reduction#TREE}. Rank 0 alone
     * writes files and tells its listener; the others see its files when they resume.
     *
     * @param communicator the caller's to close, after this
     * @param reduction how gradients are summed
     */
    public Trainer(
            LoraAdapter adapter,
            TrainingConfig config,
            List<List<Batch.Row>> packs,
            List<Batch.Row> evalRows,
            String baseModel,
            Consumer<Path> checkpointFiles,
            TrainingListener listener,
            Communicator communicator,
            Reduction reduction) {
        if (packs.isEmpty()) {
            throw new IllegalArgumentException("there are no rows to train on");
        }
        if (evalRows.isEmpty()
                && (config.evaluation().earlyStopInterval() > 0
                        || config.evaluation().loadBestModelAtEnd())) {
            throw new IllegalArgumentException(
                    "early_stop_interval and load_best_model_at_end need rows to evaluate on:"
                            + " give val_dataset or split_dataset_ratio");
        }
        this.model = adapter.model();
        this.adapter = adapter;
        this.config = config;
        this.packs = List.copyOf(packs);
        this.evalRows = List.copyOf(evalRows);
        this.baseModel = baseModel;
        this.checkpointFiles = checkpointFiles;
        this.listener = communicator.isRoot() ? listener : TrainingListener.NONE;
        this.communicator = communicator;
        this.order = new DataOrder(config.steps(), config.seed(), lengths(packs));
        this.learningRate = config.rate().of(order.totalSteps());
        this.state = new TrainerState(dataOrder());
        Path outputDir = config.saving().outputDir();
        this.optimizer = new Optimizer(model.device(), adapter.parameters(), config.optimizer(), outputDir);
        this.gradients = new GradientSum(adapter, communicator, reduction);
        this.step = new Step(adapter, optimizer, config, order, this.packs, communicator, gradients);
        this.checkpoints = new Checkpoints(outputDir);
        this.lock = communicator.isRoot() ? lock(outputDir) : null;
    }

    /** One trainer at a time writes into a folder. What a killed one left behind is put right. */
    private FolderLock lock(Path outputDir) {
        FolderLock taken = null;
        boolean done = false;
        try {
            taken = FolderLock.inside(outputDir);
            checkpoints.cleanUp();
            done = true;
            return taken;
        } finally {
            if (!done) {
                gradients.close();
                optimizer.close();
                if (taken != null) {
                    taken.close();
                }
            }
        }
    }

    /** Each row a pack of its own. */
    public static List<List<Batch.Row>> unpacked(List<Batch.Row> rows) {
        return rows.stream().map(List::of).toList();
    }

    private static int[] lengths(List<List<Batch.Row>> packs) {
        return packs.stream()
                .mapToInt(
                        pack -> pack.stream().mapToInt(row -> row.ids().length).sum())
                .toArray();
    }

    /** What decides which rows a step sees. */
    private Map<String, String> dataOrder() {
        CRC32C sum = new CRC32C();
        for (List<Batch.Row> pack : packs) {
            sum.update(pack.size());
            for (Batch.Row row : pack) {
                for (int i = 0; i < row.ids().length; i++) {
                    update(sum, row.ids()[i]);
                    update(sum, row.labels()[i]);
                }
            }
        }
        Map<String, String> data = new LinkedHashMap<>();
        data.put("seed", String.valueOf(config.seed()));
        data.put("shuffle", String.valueOf(config.steps().shuffle()));
        data.put("group_by_length", String.valueOf(config.steps().groupByLength()));
        data.put("per_device_train_batch_size", String.valueOf(config.steps().trainBatchSize()));
        data.put("gradient_accumulation_steps", String.valueOf(config.steps().gradientAccumulationSteps()));
        data.put("samples", String.valueOf(packs.size()));
        data.put("crc32c", Long.toHexString(sum.getValue()));
        return data;
    }

    /** What all ranks must have: rows and their order, where they start, and the values they start from. */
    private Map<String, String> common() {
        Map<String, String> common = new LinkedHashMap<>(state.data);
        common.put("global_step", state.step + " of " + totalSteps());
        CRC32C sum = new CRC32C();
        for (Parameter parameter : adapter.parameters().parameters()) {
            for (float value : adapter.parameters().download(parameter)) {
                update(sum, Float.floatToRawIntBits(value));
            }
        }
        common.put("crc32c of the adapter's values", Long.toHexString(sum.getValue()));
        return common;
    }

    private static void update(CRC32C sum, int value) {
        for (int shift = 0; shift < 32; shift += 8) {
            sum.update(value >>> shift);
        }
    }

    /** Optimizer steps of the whole run. */
    public int totalSteps() {
        return order.totalSteps();
    }

    /**
     * The first passes of a run from its start, in order, and the one with most tokens of the first thousand if it
     * comes later.
     */
    public List<Batch> firstPasses(int most) {
        List<Batch> all = new ArrayList<>();
        for (int done = 0; done < totalSteps() && all.size() < 1000; done++) {
            order.passes(done).forEach(pass -> all.add(step.batch(pass)));
        }
        List<Batch> first = new ArrayList<>(all.subList(0, Math.min(most, all.size())));
        Batch largest = all.stream().max(Comparator.comparingInt(Batch::tokens)).orElseThrow();
        if (!first.contains(largest)) {
            first.add(largest);
        }
        return first;
    }

    /**
     * Takes up a run where a checkpoint left it, also in the middle of an epoch. Data, seed and batch sizes must be
     * those of that run; learning rate and length may be others.
     *
     * @param path a checkpoint, a link to one, or the run's folder, which means its newest one
     * @throws IllegalArgumentException if there is none, the run is finished, or its data was another
     * @throws org.qlora4j.nf4.file.ModelFormatException if a file is damaged or of another adapter or optimizer
     */
    public void resume(Path path) {
        Path checkpoint = Checkpoints.find(path);
        TrainerState saved = TrainerCheckpoint.state(checkpoint);
        if (saved.step >= totalSteps()) {
            throw new IllegalArgumentException(checkpoint + " has done all " + totalSteps()
                    + " steps already; raise num_train_epochs or max_steps to go on");
        }
        if (stopsEarly(saved.waiting)) {
            throw new IllegalArgumentException(checkpoint + " stopped early: " + saved.waiting
                    + " checkpoints without a better metric; raise early_stop_interval to go on");
        }
        state.data.forEach((key, value) -> {
            if (!value.equals(saved.data.get(key))) {
                throw new IllegalArgumentException(checkpoint + " was trained with " + key + " "
                        + saved.data.get(key) + ", this run has " + value
                        + "; make it equal, or take up the weights only (resume_only_model)");
            }
        });
        TrainerCheckpoint.load(checkpoint, adapter, optimizer);
        state = saved;
    }

    /**
     * The checkpoint that a path means, see {@link #resume}.
     *
     * @throws IllegalArgumentException if there is none
     */
    public static Path findCheckpoint(Path path) {
        return Checkpoints.find(path);
    }

    /** Takes up a checkpoint's weights only: the run starts at step 0. */
    public void resumeOnlyModel(Path path) {
        AdapterFiles.readValues(adapter, Checkpoints.find(path));
    }

    /**
     * From any thread: {@link #run} ends after the pass in progress, with a checkpoint of the last whole step. A save
     * in progress is finished.
     */
    public void stop() {
        stopping = true;
    }

    /** Whether {@link #run} ended because this or another rank was told to {@link #stop}. */
    public boolean wasStopped() {
        return cutShort;
    }

    /**
     * Trains to the end, or until evaluation no longer gets better, or until {@link #stop}.
     *
     * @throws ArithmeticException if loss or gradient are not finite for the second time; names step, row and layer
     * @throws org.qlora4j.nf4.parallel.Agreement.DifferentRanksException if the ranks do not start from the same
     */
    public TrainingResult run() {
        Agreement.require(communicator, common());
        RunLog log = communicator.isRoot()
                ? new RunLog(config.saving().outputDir(), state.log, listener)
                : RunLog.nowhere(state.log);
        listener.starts();
        StepTimes times = new StepTimes(state.step, totalSteps());
        Path last = checkpoints.folder(state.step);
        boolean stopped = false;
        // a step asks whether any rank is to stop, so that all leave here together
        while (!stopped && state.step < totalSteps()) {
            double rate = learningRate.at(state.step);
            Step.Outcome outcome = step.run(state.step, rate, () -> stopping);
            if (outcome instanceof Step.CutShort) {
                cutShort = true;
                break;
            }
            int done = ++state.step;
            boolean end = done == totalSteps();
            if (outcome instanceof Step.NotFinite failure) {
                leaveOut(failure.what());
            }
            if (outcome instanceof Step.Done result) {
                state.sums = state.sums.plus(result.loss(), result.labels(), result.correct());
                times.step(result.tokens());
                listener.step(done, totalSteps(), result.loss(), times.tokensPerSecond(), times.secondsLeft(done));
                if (done == 1 || done % config.saving().loggingSteps() == 0 || end) {
                    log.add(new LogEntry(done, stepValues(done, rate, result.norm(), times)));
                    state.sums = TrainerState.LogSums.NONE;
                }
            }
            Metrics metrics = null;
            if (!evalRows.isEmpty() && (end || due(config.evaluation().evalSteps(), done))) {
                metrics = Metrics.of(model, evalRows, config.evaluation().evalBatchSize(), communicator);
                log.add(new LogEntry(done, evalValues(done, metrics)));
            }
            if (end || due(config.saving().saveSteps(), done)) {
                compare(done, metrics);
                last = save();
                stopped = stopsEarly(state.waiting);
            }
        }
        if (cutShort && !Files.isDirectory(checkpoints.folder(state.step))) {
            last = save();
        }
        return finish(last);
    }

    private boolean due(int every, int step) {
        int steps = every == TrainingConfig.EACH_EPOCH ? order.stepsPerEpoch() : every;
        return steps > 0 && step % steps == 0;
    }

    private boolean stopsEarly(int waiting) {
        int interval = config.evaluation().earlyStopInterval();
        return interval > 0 && waiting >= interval;
    }

    /** Once in a run a step is left out; the second one ends it. */
    private void leaveOut(String what) {
        if (state.skipped > 0) {
            throw new ArithmeticException(what
                    + ". One step was left out for this already, so training stops; lower learning_rate or max_grad_norm,"
                    + " or look at the row");
        }
        state.skipped++;
        listener.skipped(what + ". The step is left out; the next one like it stops the training");
    }

    private Map<String, Object> stepValues(int done, double rate, double norm, StepTimes times) {
        Map<String, Object> values = new LinkedHashMap<>();
        values.put("loss", state.sums.loss() / state.sums.steps());
        values.put("token_acc", round(state.sums.correct() / (double) state.sums.labels()));
        values.put("grad_norm", norm);
        values.put("learning_rate", rate);
        addPosition(values, done);
        values.put("memory(GiB)", round(model.device().peakBytes() / (double) (1 << 30)));
        times.addTo(values);
        return values;
    }

    private Map<String, Object> evalValues(int done, Metrics metrics) {
        Map<String, Object> values = new LinkedHashMap<>();
        values.put("eval_loss", metrics.loss());
        values.put("eval_ppl", metrics.perplexity());
        values.put("eval_token_acc", metrics.tokenAccuracy());
        addPosition(values, done);
        return values;
    }

    private void addPosition(Map<String, Object> values, int done) {
        values.put("epoch", round(done / (double) order.stepsPerEpoch()));
        values.put("global_step/max_steps", done + "/" + totalSteps());
    }

    static double round(double v) {
        return Math.round(v * 1e4) / 1e4;
    }

    /** Whether the checkpoint to be saved is the best so far. */
    private void compare(int done, @Nullable Metrics metrics) {
        if (metrics == null) {
            return;
        }
        double metric = metrics.byName(config.evaluation().metricForBestModel());
        Double best = state.bestMetric;
        boolean better = best == null
                ? !Double.isNaN(metric)
                : config.evaluation().greaterIsBetter() ? metric > best : metric < best;
        if (better) {
            state.bestMetric = metric;
            state.bestStep = done;
            state.waiting = 0;
        } else {
            state.waiting++;
        }
    }

    private Path save() {
        if (!communicator.isRoot()) {
            return checkpoints.folder(state.step);
        }
        Path saved = checkpoints.save(
                state.step,
                folder -> TrainerCheckpoint.write(folder, adapter, optimizer, baseModel, state, checkpointFiles));
        checkpoints.link(state.step, state.bestStep);
        checkpoints.keep(config.saving().saveTotalLimit(), state.step, state.bestStep);
        listener.saved(saved);
        return saved;
    }

    private TrainingResult finish(Path last) {
        Integer bestStep = state.bestStep;
        Path best = bestStep == null ? last : checkpoints.folder(bestStep);
        if (!Files.isDirectory(best)) {
            best = last;
        }
        if (config.evaluation().loadBestModelAtEnd() && communicator.isRoot()) {
            AdapterFiles.readValues(adapter, best);
        }
        return new TrainingResult(last, best, state.bestMetric, state.step, List.copyOf(state.log));
    }

    /** Frees the optimizer's state and lets go of the folder; the adapter stays. */
    @Override
    public void close() {
        if (lock != null) {
            lock.close();
        }
        gradients.close();
        optimizer.close();
    }
}
