package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;

/** config.json beside real weights, which are loaded if they fit. */
class ConfigFuzz {
    private static final String BASE = "models/llama_4bit_tiny/base/";
    private static final Path FOLDER = Fuzzing.folder();
    private static final ModelLoader.Options OPTIONS = new ModelLoader.Options(DType.F32, null, 1);

    @BeforeAll
    static void weights() throws IOException {
        Files.copy(Fuzzing.golden(BASE + "model.safetensors"), FOLDER.resolve("model.safetensors"));
    }

    static Stream<Arguments> seeds() throws IOException {
        List<byte[]> seeds = new ArrayList<>();
        for (String model : List.of("llama_4bit_tiny", "gemma2", "gemma3_text_tiny", "phi3", "qwen3_moe", "smollm3")) {
            seeds.add(Files.readAllBytes(Fuzzing.golden("models/" + model + "/base/config.json")));
        }
        seeds.add(Files.readAllBytes(Fuzzing.golden("models/llama_4bit_tiny/nf4_dq/base/config.json")));
        return Fuzzing.seeds(seeds.toArray(byte[][]::new));
    }

    @MethodSource("seeds")
    @FuzzTest
    void config(byte[] input) {
        Fuzzing.hold(() -> {
            Files.write(FOLDER.resolve("config.json"), input);
            try (ModelSource source = ModelSource.open(FOLDER);
                    Device device = Devices.open("reference", 1);
                    Transformer model = ModelLoader.load(source, device, OPTIONS, (done, all) -> {})) {
                model.linears();
            }
        });
    }
}
