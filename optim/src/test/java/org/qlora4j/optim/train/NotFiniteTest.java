package org.qlora4j.optim.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.optim.TinyModel;

/** a NaN says where it came from; one step is left out, the second one stops training. */
class NotFiniteTest {
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

    private TinyRun tiny(String name, int maxSteps, int batch, int accumulation) {
        return new TinyRun(folder.resolve(name)).steps(maxSteps, batch, accumulation);
    }

    private static float[] values(LoraAdapter adapter) {
        float[] values = new float[adapter.parameters().values().cols()];
        device.download(adapter.parameters().values(), values, 0);
        return values;
    }

    /** one step with a NaN is left out, saying where it came from; the second one stops training. */
    @Test
    void r20OneStepThatIsNotFiniteIsLeftOut() {
        List<String> why = new ArrayList<>();
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                Trainer trainer = tiny("nan", 6, 2, 2).trainer(adapter, new TrainingListener() {
                    private float[] good = {};

                    @Override
                    public void step(int step, int totalSteps, double loss, double perSecond, double secondsLeft) {
                        if (step == 2) {
                            good = values(adapter);
                            poison(adapter, "layers.1.mlp.up_proj.lora_B");
                        }
                    }

                    @Override
                    public void skipped(String reason) {
                        why.add(reason);
                        device.upload(adapter.parameters().values(), good, 0);
                    }
                })) {
            TrainingResult result = trainer.run();
            assertEquals(6, result.steps());
            assertEquals(
                    5,
                    result.logHistory().stream()
                            .filter(e -> e.values().containsKey("loss"))
                            .count());
        }
        assertEquals(1, why.size());
        assertTrue(why.getFirst().startsWith("step 3: row "), why.getFirst());
        assertTrue(why.getFirst().contains("loss NaN, from layer 1 on"), why.getFirst());
    }

    private static void poison(LoraAdapter adapter, String part) {
        adapter.parameters().parameters().stream()
                .filter(p -> p.name().contains(part))
                .forEach(p -> device.ops().fill(p.value(), Double.NaN));
    }

    @Test
    void r20TheSecondOneStopsTraining() {
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                Trainer trainer = tiny("nans", 6, 2, 2).trainer(adapter, new TrainingListener() {
                    @Override
                    public void step(int step, int totalSteps, double loss, double perSecond, double secondsLeft) {
                        poison(adapter, "layers.0.self_attn.q_proj.lora_A");
                    }
                })) {
            String message =
                    assertThrows(ArithmeticException.class, trainer::run).getMessage();
            assertTrue(message.startsWith("step 3: row "), message);
            assertTrue(message.contains("from layer 0 on"), message);
            assertTrue(message.contains("left out for this already"), message);
        }
    }

    /** A gradient can overflow where the loss does not: A = 0 hides a huge B from the forward pass. */
    @Test
    void r20AGradientThatIsNotFiniteIsNamed() {
        List<String> why = new ArrayList<>();
        try (Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                Trainer trainer = tiny("inf", 1, 2, 1).trainer(adapter, new TrainingListener() {
                    @Override
                    public void skipped(String reason) {
                        why.add(reason);
                    }
                })) {
            adapter.parameters().parameters().stream()
                    .filter(p -> p.name().contains("layers.1.mlp.down_proj"))
                    .forEach(p -> device.ops().fill(p.value(), p.name().contains("lora_A") ? 0 : 3e38));
            trainer.run();
        }
        assertTrue(
                why.getFirst().contains("its gradient is not finite from")
                        && why.getFirst().contains("layers.1.mlp.down_proj.lora_A"),
                why.toString());
    }
}
