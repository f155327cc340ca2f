package org.qlora4j.optim.train;

import java.nio.file.Path;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.optim.TinyModel;

/** A program that trains the tiny model and saves after each step, for {@link KillTest} to end at any moment. */
final class KilledRun {
    static final int STEPS = 10;

    private KilledRun() {}

    static TinyRun settings(Path outputDir) {
        return new TinyRun(outputDir).steps(STEPS, 2, 2).optim("adamw_8bit").intervals(5, 1);
    }

    /** @param arguments the output folder */
    public static void main(String[] arguments) {
        try (Device device = TinyModel.openDevice();
                Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                Trainer trainer = settings(Path.of(arguments[0])).trainer(adapter, new TrainingListener() {
                    private int saved;

                    @Override
                    public void saved(Path checkpoint) {
                        System.out.println("saved " + ++saved);
                    }
                })) {
            System.out.println("saved 0");
            trainer.run();
        }
    }
}
