package org.qlora4j.optim.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.optim.Optimizer;
import org.qlora4j.optim.TinyModel;

/** The loop on a tiny random model, quantized to NF4 with double quantization. */
class TrainerTest {
    private static Device device;

    @TempDir
    Path folder;

    @BeforeAll
    static void open() {
        device = TinyModel.openDevice();
    }

    @AfterAll
    static void close() {
        device.close();
    }

    /** Stops training when it is told to. */
    private static final class Stopped extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    private record Run(TrainingResult result, float[] values) {}

    private static float[] values(LoraAdapter adapter) {
        float[] values = new float[adapter.parameters().values().cols()];
        device.download(adapter.parameters().values(), values, 0);
        return values;
    }

    private TinyRun tiny(String name, int maxSteps, int batch, int accumulation) {
        return new TinyRun(folder.resolve(name)).steps(maxSteps, batch, accumulation);
    }

    private static Run run(TinyRun tiny) {
        return run(tiny, null, TrainingListener.NONE);
    }

    private static Run run(TinyRun tiny, Path resumeFrom, TrainingListener listener) {
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, tiny.lora(), 7);
                Trainer trainer = tiny.trainer(adapter, listener)) {
            if (resumeFrom != null) {
                trainer.resume(resumeFrom);
            }
            TrainingResult result = trainer.run();
            return new Run(result, values(adapter));
        }
    }

    private static List<Object> logged(TrainingResult result, String key) {
        return result.logHistory().stream()
                .filter(e -> e.values().containsKey(key))
                .map(e -> e.values().get(key))
                .toList();
    }

    @Test
    void learns() {
        TrainingResult result = run(tiny("learns", 60, 4, 1)).result;
        List<Object> losses = logged(result, "loss");
        double first = (Double) losses.getFirst();
        double last = (Double) losses.getLast();
        assertTrue(last < first / 2, "loss " + first + " -> " + last);
        List<Object> accuracy = logged(result, "token_acc");
        assertTrue((Double) accuracy.getLast() > (Double) accuracy.getFirst(), accuracy.toString());
    }

    @Test
    void theSameSeedGivesTheSameBits() {
        Run a = run(tiny("a", 8, 2, 2));
        Run b = run(tiny("b", 8, 2, 2));
        assertEquals(logged(a.result, "loss"), logged(b.result, "loss"));
        assertArrayEquals(a.values, b.values);
    }

    /** the loss of a step is the mean over its label tokens, however its rows are split into passes. */
    @Test
    void r15AccumulationIsALargerBatch() {
        Run once = run(tiny("once", 4, 4, 1).dropout(0));
        Run four = run(tiny("four", 4, 1, 4).dropout(0));
        for (int i = 0; i < 4; i++) {
            assertEquals(
                    (Double) logged(once.result, "loss").get(i),
                    (Double) logged(four.result, "loss").get(i),
                    1e-5);
            assertEquals(
                    (Double) logged(once.result, "grad_norm").get(i),
                    (Double) logged(four.result, "grad_norm").get(i),
                    // sums in another order
                    1e-4);
        }
    }

    /** The last step of an epoch has what is left: 11 rows, in steps of 4, are 3 steps, the last one of 3 rows. */
    @Test
    void theRemainderOfAnEpochIsAStep() {
        DataOrder order = new DataOrder(new TrainingConfig.Steps(2, -1, 2, 2, false), 1, new int[11]);
        assertEquals(3, order.stepsPerEpoch());
        assertEquals(6, order.totalSteps());
        assertEquals(List.of("[8, 9]", "[10]"), text(order.passes(2)));
        assertEquals(List.of("[0, 1]", "[2, 3]"), text(order.passes(3)));
    }

    /** Only where a group of 16 sorted rows turns from long to short, or the longest row was put first. */
    @Test
    void groupByLengthPutsRowsOfOneLengthIntoAStep() {
        int[] lengths = new int[64];
        for (int i = 0; i < 64; i++) {
            lengths[i] = i % 2 == 0 ? 9 : 1;
        }
        DataOrder order = new DataOrder(new TrainingConfig.Steps(1, -1, 2, 2, true, true), 1, lengths);
        int mixed = 0;
        for (int step = 0; step < 16; step++) {
            for (int[] pass : order.passes(step)) {
                mixed += lengths[pass[0]] != lengths[pass[1]] ? 1 : 0;
            }
        }
        assertTrue(mixed <= 5, mixed + " of 32 passes have two lengths; in a random order half of them would");
    }

    private static List<String> text(List<int[]> passes) {
        return passes.stream().map(java.util.Arrays::toString).toList();
    }

    /** Each epoch has every row once, in an order of its own; a jump back gives the same again. */
    @Test
    void eachEpochShufflesAnew() {
        DataOrder order = new DataOrder(new TrainingConfig.Steps(2, -1, 3, 1, true), 1, new int[10]);
        List<List<Integer>> epochs = new ArrayList<>();
        for (int epoch = 0; epoch < 2; epoch++) {
            List<Integer> seen = new ArrayList<>();
            for (int step = 0; step < 4; step++) {
                for (int row : order.passes(4 * epoch + step).getFirst()) {
                    seen.add(row);
                }
            }
            assertEquals(
                    List.of(0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
                    seen.stream().sorted().toList());
            epochs.add(seen);
        }
        assertFalse(epochs.get(0).equals(epochs.get(1)));
        assertEquals(
                epochs.getFirst().subList(3, 6),
                java.util.Arrays.stream(order.passes(1).getFirst()).boxed().toList());
    }

    /**
     * stopped behind any step — in the middle of an epoch, between log lines, before a save — and resumed from
     * the last checkpoint gives the bits and the log of a run that was not stopped.
     */
    @ParameterizedTest
    @CsvSource({"adamw_torch, 4, 1", "adamw_8bit, 4, 2", "paged_lion_8bit, 7, 3", "ademamix_8bit, 5, 2"})
    void r14StoppedAndResumedIsNotStopped(String optim, int stopBehind, int packed) {
        TinyRun whole = tiny("whole", 9, 2, 2).optim(optim).packed(packed);
        Run expected = run(whole);
        TinyRun tiny = tiny("stopped", 9, 2, 2).optim(optim).packed(packed);
        assertThrows(Stopped.class, () -> run(tiny, null, stopBehind(stopBehind)));
        Run resumed = run(tiny, folder.resolve("stopped"), TrainingListener.NONE);
        assertArrayEquals(expected.values, resumed.values);
        for (String key : List.of("loss", "token_acc", "grad_norm", "learning_rate", "eval_loss", "eval_token_acc")) {
            assertEquals(logged(expected.result, key), logged(resumed.result, key), key);
        }
    }

    private static TrainingListener stopBehind(int last) {
        return new TrainingListener() {
            @Override
            public void step(int step, int totalSteps, double loss, double tokensPerSecond, double secondsLeft) {
                if (step == last) {
                    throw new Stopped();
                }
            }
        };
    }

    /** Asked to stop in the middle of a step, a run ends behind the last whole one, with a checkpoint. */
    @Test
    void aRunThatIsAskedToStopGoesOnBitForBit() {
        Run expected = run(tiny("whole", 9, 2, 2));
        TinyRun tiny = tiny("asked", 9, 2, 2);
        Trainer[] trainer = new Trainer[1];
        TrainingListener stops = new TrainingListener() {
            @Override
            public void step(int step, int totalSteps, double loss, double tokensPerSecond, double secondsLeft) {
                if (step == 4) {
                    trainer[0].stop();
                }
            }
        };
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, tiny.lora(), 7);
                Trainer asked = tiny.trainer(adapter, stops)) {
            trainer[0] = asked;
            TrainingResult result = asked.run();
            assertEquals(4, result.steps());
            assertEquals(folder.resolve("asked/checkpoint-4"), result.lastCheckpoint());
        }
        Run resumed = run(tiny, folder.resolve("asked/checkpoint-4"), TrainingListener.NONE);
        assertArrayEquals(expected.values, resumed.values);
        assertEquals(logged(expected.result, "loss"), logged(resumed.result, "loss"));
    }

    /** cut short between the passes of an accumulation, a step leaves no trace. */
    @Test
    void r14AStepCutShortLeavesNoTrace() {
        assertArrayEquals(twoSteps(false), twoSteps(true));
    }

    private float[] twoSteps(boolean cutTheSecondFirst) {
        TrainingConfig config = tiny("cut", 9, 1, 4).config();
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                Optimizer optimizer = new Optimizer(device, adapter.parameters(), config.optimizer());
                GradientSum sum = new GradientSum(adapter, Communicator.SINGLE, Communicator.Reduction.TREE)) {
            DataOrder order = new DataOrder(config.steps(), config.seed(), new int[11]);
            List<List<Batch.Row>> packs = Trainer.unpacked(TinyRun.rows(11, 5));
            Step step = new Step(adapter, optimizer, config, order, packs, Communicator.SINGLE, sum);
            step.run(0, 1e-2, () -> false);
            if (cutTheSecondFirst) {
                int[] asked = {0};
                assertEquals(new Step.CutShort(), step.run(1, 1e-2, () -> ++asked[0] == 3));
            }
            step.run(1, 1e-2, () -> false);
            return values(adapter);
        }
    }

    /** a run that is done, or whose data is another, says so instead of training on. */
    @Test
    void r14AFinishedOrAnotherRunIsNotResumed() {
        TinyRun tiny = tiny("done", 4, 2, 2);
        Run done = run(tiny);
        String message = assertThrows(
                        IllegalArgumentException.class, () -> run(tiny, folder.resolve("done"), TrainingListener.NONE))
                .getMessage();
        assertTrue(message.contains("has done all 4 steps already; raise num_train_epochs or max_steps"), message);
        Run longer = run(tiny("done", 6, 2, 2), folder.resolve("done/last"), TrainingListener.NONE);
        assertEquals(6, longer.result.steps());
        TinyRun otherBatch = tiny("done", 8, 1, 2);
        message = assertThrows(
                        IllegalArgumentException.class,
                        () -> run(otherBatch, folder.resolve("done"), TrainingListener.NONE))
                .getMessage();
        assertTrue(message.contains("per_device_train_batch_size 2, this run has 1"), message);
        TinyRun otherRows = tiny("done", 8, 2, 2).rows(TinyRun.rows(11, 6));
        message = assertThrows(
                        IllegalArgumentException.class,
                        () -> run(otherRows, folder.resolve("done"), TrainingListener.NONE))
                .getMessage();
        assertTrue(message.contains("crc32c"), message);
        message = assertThrows(
                        IllegalArgumentException.class,
                        () -> run(tiny, folder.resolve("nowhere"), TrainingListener.NONE))
                .getMessage();
        assertTrue(message.contains("expected a checkpoint"), message);
        assertEquals(4, done.result.steps());
    }

    @Test
    void onlyTheWeightsAreTakenUpOnRequest() {
        Run done = run(tiny("weights", 4, 2, 2));
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 8);
                Trainer trainer = tiny("more", 1, 1, 1).trainer(adapter, TrainingListener.NONE)) {
            trainer.resumeOnlyModel(folder.resolve("weights"));
            assertArrayEquals(done.values, values(adapter));
            assertEquals(1, trainer.run().steps());
        }
    }

    @Test
    void keepsBestAndLastCheckpointAndLogs() throws IOException {
        TrainingResult result = run(tiny("kept", 12, 2, 1)).result;
        Path run = folder.resolve("kept");
        assertEquals(run.resolve("checkpoint-12"), result.lastCheckpoint());
        assertTrue(Files.isRegularFile(result.bestCheckpoint().resolve(AdapterFiles.WEIGHTS)));
        try (var files = Files.list(run)) {
            List<String> names =
                    files.map(f -> f.getFileName().toString()).sorted().toList();
            assertEquals(
                    2, names.stream().filter(n -> n.startsWith("checkpoint-")).count(), names.toString());
            assertFalse(names.stream().anyMatch(n -> n.startsWith(".")), names.toString());
        }
        assertEquals(Path.of("checkpoint-12"), Files.readSymbolicLink(run.resolve("last")));
        assertEquals(result.bestCheckpoint().toRealPath(), run.resolve("best").toRealPath());
        List<String> log = Files.readAllLines(run.resolve("logging.jsonl"));
        assertEquals(12 + 4, log.size());
        assertTrue(log.getFirst().contains("\"global_step/max_steps\":\"1/12\""), log.getFirst());
    }

    @Test
    void theBestCheckpointStaysWhenItIsNotTheNewest() {
        // a rate that ruins what the first steps learned
        TrainingResult result = run(tiny("ruined", 12, 2, 1).rate(0.3)).result;
        List<Object> metrics = logged(result, "eval_loss");
        double best = metrics.stream().mapToDouble(m -> (Double) m).min().orElseThrow();
        assertEquals(best, result.bestMetric());
        assertTrue(Files.isDirectory(result.bestCheckpoint()));
        assertEquals(folder.resolve("ruined/checkpoint-" + 3 * (1 + metrics.indexOf(best))), result.bestCheckpoint());
    }

    @ParameterizedTest
    @ValueSource(strings = {"loss", "eval_token_acc"})
    void stopsEarlyWhenEvaluationGetsNoBetter(String metric) {
        TinyRun tiny = tiny("early" + metric, 60, 2, 1).rate(0.3).early(metric, 2);
        Run early = run(tiny);
        List<Object> metrics = logged(early.result, metric.startsWith("eval_") ? metric : "eval_" + metric);
        assertTrue(early.result.steps() < 60, "stopped at " + early.result.steps());
        int best = metrics.indexOf(early.result.bestMetric());
        assertEquals(metrics.size() - 1 - 2, best, metrics.toString());
        // load_best_model_at_end
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7)) {
            AdapterFiles.readValues(adapter, early.result.bestCheckpoint());
            assertArrayEquals(values(adapter), early.values);
        }
        String message = assertThrows(
                        IllegalArgumentException.class,
                        () -> run(tiny, early.result.lastCheckpoint(), TrainingListener.NONE))
                .getMessage();
        assertTrue(message.contains("stopped early"), message);
    }

    @Test
    void evaluationIsThatOfAllLabelTokens() {
        TinyRun tiny = tiny("evaluated", 3, 2, 1);
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                Trainer trainer = tiny.trainer(adapter, TrainingListener.NONE)) {
            LogEntry entry = trainer.run().logHistory().getLast();
            double sum = 0;
            int labels = 0;
            for (Batch.Row row : TinyRun.EVAL_ROWS) {
                for (double loss : model.losses(new Batch(List.of(row)))) {
                    sum += loss;
                    labels++;
                }
            }
            assertEquals(sum / labels, (Double) entry.values().get("eval_loss"), 1e-6);
            assertEquals(Math.exp(sum / labels), (Double) entry.values().get("eval_ppl"), 1e-4);
        }
    }

    @Test
    void aSaveThatFailsLeavesThePreviousCheckpoint() {
        Path run = folder.resolve("full");
        TinyRun tiny = tiny("full", 6, 2, 1).files(checkpoint -> {
            if (Files.exists(run.resolve("checkpoint-3"))) {
                throw new IllegalStateException("no space left");
            }
        });
        assertThrows(IllegalStateException.class, () -> run(tiny));
        String[] names = run.toFile().list((f, n) -> n.contains("checkpoint"));
        assertArrayEquals(new String[] {"checkpoint-3"}, names);
    }

    @Test
    void checkpointsThatAreComparedMustBeEvaluated() {
        assertThrows(
                IllegalArgumentException.class,
                () -> tiny("odd", 9, 1, 1).early("loss", 1).intervals(2, 3).config());
        assertThrows(
                IllegalArgumentException.class,
                () -> tiny("f1", 9, 1, 1).early("f1", 1).config());
        TinyRun noRows = tiny("none", 9, 1, 1).early("loss", 1).evalRows(List.of());
        assertThrows(IllegalArgumentException.class, () -> run(noRows));
    }

    @Test
    void eachEpochCanEvaluateAndSave() {
        // 11 rows in passes of 4: 3 steps an epoch
        TrainingResult result =
                run(tiny("epochs", 7, 4, 1).intervals(TrainingConfig.EACH_EPOCH, TrainingConfig.EACH_EPOCH)).result;
        assertEquals(
                List.of(3, 6, 7),
                result.logHistory().stream()
                        .filter(e -> e.values().containsKey("eval_loss"))
                        .map(LogEntry::step)
                        .toList());
    }
}
