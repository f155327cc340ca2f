import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.BiasTraining;
import org.qlora4j.lora.adapter.InitWeights;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.adapter.ModuleSelector;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;

/** Trains an adapter of each option for some steps and writes it with the logits it gives: AdapterOptions BASE OUT. */
final class AdapterOptions {
    private static final int[] IDS = {1, 78, 277, 78, 244, 74, 248, 258, 230, 258, 288, 57, 4, 303, 83, 243, 285};

    private static Map<String, LoraConfig> options() {
        Map<String, LoraConfig> all = new LinkedHashMap<>();
        LoraConfig plain = LoraConfig.allLinear(4, 8);
        all.put("plain", plain);
        all.put("rslora", plain.toBuilder().useRslora(true).build());
        all.put("gaussian", plain.toBuilder().initWeights(InitWeights.GAUSSIAN).build());
        all.put("dora", plain.toBuilder().useDora(true).build());
        all.put(
                "dora_patterns",
                plain.toBuilder()
                        .useDora(true)
                        .targetModules(new ModuleSelector.Names(Set.of("q_proj", "up_proj", "down_proj")))
                        .rankPattern(Map.of("up_proj", 2))
                        .alphaPattern(Map.of("down_proj", 3.0))
                        .layersToTransform(List.of(1))
                        .layersPattern(List.of("layers"))
                        .build());
        all.put(
                "regex",
                plain.toBuilder()
                        .targetModules(new ModuleSelector.Regex(".*(q|v|down)_proj"))
                        .excludeModules(new ModuleSelector.Names(Set.of("v_proj")))
                        .build());
        all.put("pissa", plain.toBuilder().initWeights(InitWeights.of("pissa")).build());
        all.put("olora", plain.toBuilder().initWeights(InitWeights.of("olora")).build());
        all.put("lora_bias", plain.toBuilder().loraBias(true).build());
        all.put("bias_all", plain.toBuilder().targetModules(new ModuleSelector.Names(Set.of("q_proj"))).bias(BiasTraining.ALL).build());
        all.put("bias_lora_only", plain.toBuilder().bias(BiasTraining.LORA_ONLY).useDora(true).build());
        all.put("lm_head_lora", plain.toBuilder().targetModules(new ModuleSelector.Names(Set.of("lm_head", "q_proj"))).build());
        all.put(
                "embed_lora",
                plain.toBuilder()
                        .targetModules(new ModuleSelector.Names(Set.of("embed_tokens", "q_proj")))
                        .ensureWeightTying(false)
                        .build());
        all.put("embed_saved_tied", plain.toBuilder().modulesToSave(Set.of("embed_tokens")).build());
        all.put(
                "embed_saved_apart",
                plain.toBuilder().modulesToSave(Set.of("embed_tokens")).ensureWeightTying(false).build());
        all.put("head_saved", plain.toBuilder().modulesToSave(Set.of("lm_head")).build());
        all.put("tokens", plain.toBuilder().trainableTokenIndices(Map.of("embed_tokens", List.of(57, 78, 258))).build());
        return all;
    }

    public static void main(String[] args) throws IOException {
        Path out = Path.of(args[1]);
        try (Device device = Devices.open("cpu", 2);
                ModelSource source = ModelSource.open(Path.of(args[0]));
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 2), (done, all) -> {})) {
            for (Map.Entry<String, LoraConfig> option : options().entrySet()) {
                Path folder = Files.createDirectories(out.resolve(option.getKey()));
                try (LoraAdapter adapter = LoraAdapter.attach(model, option.getValue(), 7)) {
                    for (int step = 0; step < 5; step++) {
                        adapter.parameters().zeroGradients();
                        model.gradients(new Batch(List.of(new Batch.Row(IDS, IDS))), 1.0 / (IDS.length - 1), step);
                        device.ops().add(adapter.parameters().values(), adapter.parameters().gradients(), -0.5);
                    }
                    AdapterFiles.save(adapter, args[0], folder);
                    write(model.logits(IDS), folder.resolve("logits.safetensors"));
                }
            }
        }
    }

    private static void write(float[] logits, Path file) {
        TensorSpec spec = TensorSpec.of("logits", DType.F32, IDS.length, logits.length / IDS.length);
        SafetensorsWriter.write(file, List.of(spec), (s, sink) -> sink.writeFloats(logits, 0, logits.length));
    }
}
