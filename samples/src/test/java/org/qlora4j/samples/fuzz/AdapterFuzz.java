package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.tensor.DType;

/** adapter_config.json beside an adapter's weights, or weights beside their configuration; PEFT's or mlx-lm's. */
class AdapterFuzz {
    private static final String GOLDEN = "models/llama_4bit_tiny/adapter_init/";
    private static final Path FOLDER = Fuzzing.folder();
    private static byte[] config;
    private static byte[] weights;
    private static final long MOST_HELD = 64 << 20;
    private static Transformer model;

    @BeforeAll
    @SuppressWarnings("MustBeClosedChecker") // for as long as the process lives
    static void load() throws IOException {
        config = Files.readAllBytes(Fuzzing.golden(GOLDEN + AdapterFiles.CONFIG));
        weights = Files.readAllBytes(Fuzzing.golden(GOLDEN + AdapterFiles.WEIGHTS));
        try (ModelSource source = ModelSource.open(Fuzzing.golden("models/llama_4bit_tiny/base"))) {
            model = ModelLoader.load(
                    source,
                    Devices.open("reference", 1),
                    new ModelLoader.Options(DType.F32, null, 1),
                    (done, all) -> {});
        }
    }

    static Stream<Arguments> seeds() throws IOException {
        List<byte[]> seeds = new ArrayList<>();
        seeds.add(Files.readAllBytes(Fuzzing.golden(GOLDEN + AdapterFiles.CONFIG)));
        seeds.add(
                ("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":\".*_proj\",\"exclude_modules\":"
                                + "\"lm_head\",\"rank_pattern\":{\"layers.[0-9]+.mlp\":3},\"alpha_pattern\":{\"q_proj\":1.5}}")
                        .getBytes());
        seeds.add(("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q_proj\"],"
                        + "\"layers_to_transform\":[0],\"layers_pattern\":\"layers\",\"modules_to_save\":[\"lm_head\"],"
                        + "\"trainable_token_indices\":{\"embed_tokens\":[1,2]},\"use_dora\":true}")
                .getBytes());
        seeds.add("{\"fine_tune_type\":\"lora\",\"lora_parameters\":{\"rank\":2,\"scale\":2.0,\"dropout\":0}}"
                .getBytes());
        byte[] file = Files.readAllBytes(Fuzzing.golden(GOLDEN + AdapterFiles.WEIGHTS));
        seeds.add(Arrays.copyOfRange(file, 8, 8 + (int) length(file)));
        byte[][] all = new byte[seeds.size()][];
        for (int i = 0; i < all.length; i++) {
            all[i] = new byte[seeds.get(i).length + 1];
            all[i][0] = (byte) Math.max(0, i - 2);
            System.arraycopy(seeds.get(i), 0, all[i], 1, seeds.get(i).length);
        }
        return Fuzzing.seeds(all);
    }

    private static long length(byte[] file) {
        return file[0] & 0xFF | (file[1] & 0xFF) << 8;
    }

    @MethodSource("seeds")
    @FuzzTest
    void files(byte[] input) {
        byte[] rest = Fuzzing.rest(input);
        int choice = Fuzzing.choice(input, 4);
        byte[] header = choice == 0 || choice == 1 ? null : rest;
        byte[] data = Arrays.copyOfRange(weights, 8 + (int) length(weights), weights.length);
        Fuzzing.hold(() -> {
            String name = choice == 1 || choice == 3 ? "adapters.safetensors" : AdapterFiles.WEIGHTS;
            Files.deleteIfExists(FOLDER.resolve("adapters.safetensors"));
            Files.deleteIfExists(FOLDER.resolve(AdapterFiles.WEIGHTS));
            Files.write(FOLDER.resolve(name), header == null ? weights : Fuzzing.safetensors(header, data));
            Files.write(FOLDER.resolve(AdapterFiles.CONFIG), header == null ? rest : config);
            LoraConfig read = AdapterFiles.readConfig(FOLDER);
            AdapterFiles.baseModel(FOLDER);
            try (LoraAdapter adapter = AdapterFiles.load(model, read, FOLDER)) {
                adapter.detach();
            }
        });
        if (model.device().bytesHeld() > MOST_HELD) {
            throw new AssertionError("refused adapters keep " + model.device().bytesHeld() + " bytes of the device");
        }
    }
}
