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
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.optim.LearningRate;
import org.qlora4j.optim.OptimizerConfig;

/** The loop on a tiny random model, quantized to NF4 with double quantization. */
class TrainerTest {
    private static Device device;

    @TempDir
    Path folder;

    @BeforeAll
    static void open() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        device = Devices.open("cpu", 2);
    }

    @AfterAll
    static void close() {
        device.close();
    }

    private static Transformer model() {
        try (ModelSource source =
                ModelSource.open(Path.of(System.getProperty("qlora4j.golden"), "models/llama/base"))) {
            return ModelLoader.load(
                    source, device, new ModelLoader.Options(DType.F32, Quantization.NF4_DOUBLE, 2), (done, all) -> {});
        }
    }

    private static LoraConfig lora() {
        return LoraConfig.allLinear(4, 16).withDropout(0.1);
    }

    /** Rows whose second half is the first half reversed: learnable, and not by bigrams. */
    private static List<Batch.Row> rows(int count) {
        SplittableRandom random = new SplittableRandom(5);
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

    private TrainingConfig config(String name, int maxSteps, int batch, int accumulation) {
        return new TrainingConfig(
                1,
                maxSteps,
                batch,
                2,
                accumulation,
                1e-2,
                LearningRate.Schedule.LINEAR,
                0.1,
                0,
                OptimizerConfig.adamW(0.9, 0.999, 1e-8, 0.01).withMaxGradNorm(1),
                1,
                4,
                3,
                2,
                folder.resolve(name),
                42,
                true);
    }

    private record Run(TrainingResult result, float[] values) {}

    private static Run run(TrainingConfig config, Path resumeFrom) {
        try (Transformer model = model();
                LoraAdapter adapter = LoraAdapter.attach(model, lora(), 7);
                Trainer trainer = new Trainer(
                        adapter, config, rows(11), rows(3), "tiny", checkpoint -> {}, TrainingListener.NONE)) {
            if (resumeFrom != null) {
                trainer.resume(resumeFrom);
            }
            TrainingResult result = trainer.run();
            float[] values = new float[adapter.parameters().values().cols()];
            device.download(adapter.parameters().values(), values, 0);
            return new Run(result, values);
        }
    }

    private static List<Object> losses(TrainingResult result) {
        return result.logHistory().stream()
                .filter(e -> e.values().containsKey("loss"))
                .map(e -> e.values().get("loss"))
                .toList();
    }

    @Test
    void learns() {
        List<Object> losses = losses(run(config("learns", 60, 4, 1), null).result);
        double first = (Double) losses.getFirst();
        double last = (Double) losses.getLast();
        assertTrue(last < first / 2, "loss " + first + " -> " + last);
    }

    @Test
    void theSameSeedGivesTheSameBits() {
        Run a = run(config("a", 8, 2, 2), null);
        Run b = run(config("b", 8, 2, 2), null);
        assertEquals(losses(a.result), losses(b.result));
        assertArrayEquals(a.values, b.values);
    }

    @Test
    void stoppedAndResumedIsNotStopped() {
        Run whole = run(config("whole", 9, 2, 2), null);
        // the schedule of nine steps, stopped by the test behind the checkpoint of step 3
        Path third = folder.resolve("stopped").resolve("checkpoint-3");
        TrainingConfig config = config("stopped", 9, 2, 2);
        try (Transformer model = model();
                LoraAdapter adapter = LoraAdapter.attach(model, lora(), 7);
                Trainer trainer = new Trainer(
                        adapter, config, rows(11), rows(3), "tiny", checkpoint -> {}, new TrainingListener() {
                            @Override
                            public void saved(Path checkpoint) {
                                throw new IllegalStateException("stopped by the test");
                            }
                        })) {
            assertThrows(IllegalStateException.class, trainer::run);
        }
        Run resumed = run(config, third);
        assertEquals(losses(whole.result), losses(resumed.result));
        assertArrayEquals(whole.values, resumed.values);
        assertThrows(IllegalArgumentException.class, () -> run(config, folder.resolve("stopped/checkpoint-9")));
    }

    @Test
    void keepsBestAndLastCheckpointAndLogs() throws IOException {
        TrainingResult result = run(config("kept", 12, 2, 1), null).result;
        assertEquals(folder.resolve("kept/checkpoint-12"), result.lastCheckpoint());
        assertTrue(Files.isRegularFile(result.bestCheckpoint().resolve(AdapterFiles.WEIGHTS)));
        try (var files = Files.list(folder.resolve("kept"))) {
            List<String> names =
                    files.map(f -> f.getFileName().toString()).sorted().toList();
            assertEquals(
                    2, names.stream().filter(n -> n.startsWith("checkpoint-")).count(), names.toString());
            assertFalse(names.toString().contains(".part"), names.toString());
        }
        List<String> log = Files.readAllLines(folder.resolve("kept/logging.jsonl"));
        assertEquals(12 + 3, log.size());
        assertTrue(log.getFirst().contains("\"global_step/max_steps\":\"1/12\""), log.getFirst());
    }

    @Test
    void aSaveThatFailsLeavesThePreviousCheckpoint() {
        TrainingConfig config = config("full", 6, 2, 1);
        try (Transformer model = model();
                LoraAdapter adapter = LoraAdapter.attach(model, lora(), 7);
                Trainer trainer = new Trainer(
                        adapter,
                        config,
                        rows(11),
                        List.of(),
                        "tiny",
                        checkpoint -> {
                            if (Files.exists(config.outputDir().resolve("checkpoint-3"))) {
                                throw new IllegalStateException("no space left");
                            }
                        },
                        TrainingListener.NONE)) {
            assertThrows(IllegalStateException.class, trainer::run);
        }
        String[] names = config.outputDir().toFile().list((f, n) -> n.contains("checkpoint"));
        assertArrayEquals(new String[] {"checkpoint-3"}, names);
    }

    @Test
    void aTargetThatMatchesNothingIsRefusedWithTheNames() {
        try (Transformer model = model()) {
            String message = assertThrows(
                            IllegalArgumentException.class,
                            () -> LoraAdapter.attach(
                                    model,
                                    LoraConfig.builder(4, 8)
                                            .targetModules(new org.qlora4j.lora.adapter.ModuleSelector.Names(
                                                    java.util.Set.of("qkv_proj")))
                                            .build(),
                                    1))
                    .getMessage();
            assertEquals(
                    "target_modules 'qkv_proj' matches no linear layer of the model; there are: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head",
                    message);
        }
    }
}
