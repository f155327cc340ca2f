package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.adapter.ModuleSelector;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.optim.Optimizer;
import org.qlora4j.optim.OptimizerNames;

/** optimizer.safetensors of a checkpoint; the first byte says whether with 8 bits. */
class OptimizerStateFuzz {
    private static final Path FILE = Fuzzing.folder().resolve("optimizer.safetensors");
    private static final Optimizer[] OPTIMIZERS = {optimizer("adamw_torch", 1), optimizer("adamw_bnb_8bit", 33)};

    @SuppressWarnings("MustBeClosedChecker") // for as long as the process lives
    private static Optimizer optimizer(String name, int rank) {
        Device device = Devices.open("reference", 1);
        try (ModelSource source = ModelSource.open(Fuzzing.golden("models/llama_4bit_tiny/base"))) {
            Transformer model =
                    ModelLoader.load(source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {});
            LoraConfig config = LoraConfig.builder(rank, 8)
                    .targetModules(new ModuleSelector.Names(Set.of("q_proj")))
                    .build();
            LoraAdapter adapter = LoraAdapter.attach(model, config, 1);
            OptimizerNames.Constants constants = new OptimizerNames.Constants(0.9, 0.99, 1e-8, 0.1);
            return new Optimizer(device, adapter.parameters(), OptimizerNames.config(name, constants, ""));
        }
    }

    static Stream<Arguments> seeds() throws IOException {
        byte[][] seeds = new byte[OPTIMIZERS.length][];
        for (int i = 0; i < seeds.length; i++) {
            OPTIMIZERS[i].save(FILE);
            byte[] file = Files.readAllBytes(FILE);
            seeds[i] = new byte[file.length + 1];
            seeds[i][0] = (byte) i;
            System.arraycopy(file, 0, seeds[i], 1, file.length);
        }
        return Fuzzing.seeds(seeds);
    }

    @MethodSource("seeds")
    @FuzzTest
    void state(byte[] input) {
        Fuzzing.hold(() -> {
            Files.write(FILE, Fuzzing.rest(input));
            OPTIMIZERS[Fuzzing.choice(input, OPTIMIZERS.length)].load(FILE);
        });
    }
}
