package org.qlora4j.optim.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.optim.TinyModel;

/** What a training run holds. */
class TrainerMemoryTest {
    @TempDir
    Path folder;

    /** training takes no memory from step to step, and gives all of it back. */
    @ParameterizedTest
    @ValueSource(strings = {"adamw_torch", "adamw_8bit"})
    void r07StepsTakeNoMemory(String optim) {
        try (Device device = TinyModel.openDevice()) {
            List<Long> held = new ArrayList<>();
            try (Transformer model = TinyModel.load(device);
                    LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                    Trainer trainer = new TinyRun(folder)
                            .steps(20, 2, 2)
                            .optim(optim)
                            .regularization(5, 0.1)
                            .trainer(adapter, new TrainingListener() {
                                @Override
                                public void step(
                                        int step, int totalSteps, double loss, double perSecond, double secondsLeft) {
                                    held.add(device.bytesHeld());
                                }
                            })) {
                trainer.run();
            }
            // by the end of the first epoch all rows, and an evaluation, have been seen
            for (int step = 5; step < held.size(); step++) {
                assertEquals(held.get(4), held.get(step), "bytes held at step " + (step + 1) + " of " + held);
            }
        }
    }

    /** whatever the base is quantized to, adapters and gradients are fp32. */
    @Test
    void r20TrainedValuesAndGradientsAreFp32() {
        try (Device device = TinyModel.openDevice();
                Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7)) {
            assertTrue(!adapter.parameters().parameters().isEmpty());
            for (Parameter p : adapter.parameters().parameters()) {
                assertEquals(DType.F32, p.value().dtype(), p.name());
                assertEquals(DType.F32, p.gradient().dtype(), p.name());
            }
        }
    }
}
