package org.qlora4j.optim.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
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
import org.qlora4j.optim.Optimizer;
import org.qlora4j.optim.OptimizerConfig;
import org.qlora4j.optim.OptimizerNames;

/** what is counted before a run is what the CPU holds in it. */
class MemoryEstimateTest {
    private static final int THREADS = 2;
    /** Of the golden model. */
    private static final int LAYERS = 3;

    private static final OptimizerConfig ADAMW = OptimizerConfig.adamW(0.9, 0.95, 1e-8, 0.1);

    @TempDir
    Path folder;

    @BeforeAll
    static void fetch() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
    }

    private static ModelSource source() {
        return ModelSource.open(Path.of(System.getProperty("qlora4j.golden"), "models/llama/base"));
    }

    private static MemorySettings settings(LoraConfig lora, int checkpointed, List<Batch> passes) {
        return settings(lora, checkpointed, passes, DType.F32);
    }

    private static MemorySettings settings(LoraConfig lora, int checkpointed, List<Batch> passes, DType computeType) {
        try (ModelSource source = source()) {
            return new MemorySettings(
                    source.config(),
                    DType.BF16,
                    Quantization.NF4_DOUBLE,
                    ModelLoader.Int8.NOTHING,
                    lora,
                    ADAMW,
                    checkpointed,
                    passes,
                    List.of(),
                    "cpu",
                    THREADS,
                    computeType,
                    0);
        }
    }

    /** The same run on the real device. */
    private long measuredPeak(MemorySettings s) {
        try (ModelSource source = source();
                Device device = Devices.open("cpu", THREADS, s.computeType());
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(s.dtype(), s.quantization(), 1), (done, all) -> {});
                LoraAdapter adapter = LoraAdapter.attach(model, s.lora(), 1);
                Optimizer optimizer = new Optimizer(device, adapter.parameters(), s.optimizer(), folder)) {
            model.setCheckpointedLayers(s.checkpointedLayers());
            for (Batch pass : s.passes()) {
                adapter.parameters().zeroGradients();
                model.gradients(pass, 1.0 / pass.labelTokens(), 3);
                optimizer.step(1e-4);
            }
            return device.peakBytes();
        }
    }

    private static Batch.Row row(int length) {
        int[] ids = new int[length];
        java.util.Arrays.setAll(ids, i -> i % 100);
        int[] labels = ids.clone();
        java.util.Arrays.fill(labels, 0, length / 2, Batch.IGNORED);
        return new Batch.Row(ids, labels);
    }

    private static List<Batch> mixedLengths() {
        SplittableRandom random = new SplittableRandom(7);
        List<Batch> passes = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            passes.add(new Batch(List.of(row(50 + random.nextInt(350)))));
        }
        return passes;
    }

    @Test
    void theEstimateIsWithin10PercentOfThePeakForEverySetting() {
        List<Batch> long1 = List.of(new Batch(List.of(row(400))));
        LoraConfig rank8 = LoraConfig.allLinear(8, 32);
        MemorySettings rank64 = settings(LoraConfig.allLinear(64, 32), LAYERS, long1);
        Map<String, MemorySettings> cases = Map.of(
                "adamw_8bit", rank64.withOptimizer(named("adamw_8bit")),
                "paged_adamw_32bit", rank64.withOptimizer(named("paged_adamw_32bit")),
                "rank 8", settings(rank8, LAYERS, long1),
                "rank 64, dropout", settings(LoraConfig.allLinear(64, 32).withDropout(0.05), LAYERS, long1),
                "bf16 products", settings(rank8, LAYERS, long1, DType.BF16),
                "short rows", settings(rank8, LAYERS, List.of(new Batch(List.of(row(100))))),
                "no checkpointing", settings(rank8, 0, long1),
                "one of three layers", settings(rank8, 1, long1),
                "several sequences", settings(rank8, LAYERS, List.of(new Batch(List.of(row(100), row(80), row(220))))),
                "mixed lengths", settings(rank8, LAYERS, mixedLengths()));
        cases.forEach((name, s) -> {
            double estimated = MemoryEstimate.of(s).deviceBytes();
            double measured = measuredPeak(s);
            assertEquals(1, estimated / measured, 0.1, name + ": estimated " + estimated + ", measured " + measured);
        });
    }

    private static OptimizerConfig named(String optim) {
        return OptimizerNames.config(optim, new OptimizerNames.Constants(0.9, 0.95, 1e-8, 0.1), "");
    }

    @Test
    void eightBitStateTakesAQuarterAndPagedStateNoneOfTheDevice() {
        MemorySettings full = settings(LoraConfig.allLinear(64, 32), LAYERS, List.of(MemorySettings.fullBatch(1, 64)));
        MemoryEstimate e = MemoryEstimate.of(full);
        double eight =
                MemoryEstimate.of(full.withOptimizer(named("adamw_8bit"))).bytes("optimizer");
        assertEquals(0.25 + 1 / 256.0, eight / e.bytes("optimizer"), 0.001);
        MemoryEstimate paged = MemoryEstimate.of(full.withOptimizer(named("paged_adamw_32bit")));
        assertEquals(0, paged.bytes("optimizer"));
        assertEquals(1, (double) paged.bytes("optimizer_paged") / e.bytes("optimizer"), 0.001);
        assertTrue(paged.deviceBytes() < e.deviceBytes());
    }

    @Test
    void itemsAreWhatTheirNamesSay() {
        MemoryEstimate e = MemoryEstimate.of(
                settings(LoraConfig.allLinear(8, 32), LAYERS, List.of(MemorySettings.fullBatch(1, 64))));
        long parameters = 4 * e.parameters().trained();
        assertTrue(e.bytes("adapters") >= parameters && e.bytes("adapters") < 2 * parameters, e.toString());
        assertEquals(e.bytes("adapters"), e.bytes("gradients"), "one flat buffer each");
        assertEquals(2 * e.bytes("adapters"), e.bytes("optimizer"), "AdamW's two moments");
        assertThrows(IllegalArgumentException.class, () -> e.bytes("nothing"));
    }

    @Test
    void checkpointingAndShorterRowsNeedLess() {
        MemorySettings s = settings(LoraConfig.allLinear(64, 32), 0, List.of(MemorySettings.fullBatch(2, 2048)));
        long all = MemoryEstimate.of(s).totalBytes();
        long last = all;
        for (int layers = 1; layers <= LAYERS; layers++) {
            long now = MemoryEstimate.of(s.withCheckpointedLayers(layers)).totalBytes();
            assertTrue(now < last, "each layer that is run again saves memory: " + layers);
            last = now;
        }
        assertTrue(MemoryEstimate.of(s.withPasses(List.of(MemorySettings.fullBatch(1, 2048))))
                        .totalBytes()
                < all);
        assertTrue(MemoryEstimate.of(s.withLora(LoraConfig.allLinear(4, 32))).totalBytes() < all);
    }
}
