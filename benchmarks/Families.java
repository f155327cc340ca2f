import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.lora.export.BnbOptions;
import org.qlora4j.lora.export.GgufExport;
import org.qlora4j.lora.export.HuggingFaceExport;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.GgufConfig;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.GgufType;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;

/**
 * For each model that families.py made: logits on cpu and reference, loss and gradients with the adapter, the model as
 * GGUF and its logits read back; and in said.json what was refused: Families DIR.
 */
class Families {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Path folder;
    private final int[][] rows;
    private final Map<String, float[]> values = new LinkedHashMap<>();
    private final ObjectNode said = JSON.createObjectNode();

    Families(Path folder) throws IOException {
        this.folder = folder;
        this.rows = JSON.readValue(folder.resolve("rows.json").toFile(), int[][].class);
    }

    public static void main(String[] args) throws IOException {
        try (Device cpu = Devices.open("cpu", 2);
                Device reference = Devices.open("reference", 1);
                Stream<Path> folders = Files.list(Path.of(args[0]))) {
            for (Path folder : folders.filter(f -> Files.isDirectory(f.resolve("base"))).toList()) {
                Families f = new Families(folder);
                f.compute(cpu, reference);
                f.save();
            }
        }
    }

    private void compute(Device cpu, Device reference) throws IOException {
        Path base = folder.resolve("base");
        try (Transformer model = load(base, cpu)) {
            logits("cpu", model);
            adapter(model);
        } catch (RuntimeException e) {
            said.put("model", message(e));
            return;
        }
        try (Transformer model = load(base, reference)) {
            logits("reference", model);
        }
        if (folder.getFileName().toString().matches("[a-z23]+")) { // the plain configuration of a family
            writtenInFourBits(base, cpu);
        }
        Path gguf = folder.resolve("model.gguf");
        Files.deleteIfExists(gguf);
        try (ModelSource source = ModelSource.open(base);
                ChatText text = ChatText.load(base)) {
            GgufExport.write(MergedWeights.of(source), text, GgufType.F32, "tiny", gguf);
            Map<String, Object> metadata = GgufConfig.metadata(source.config());
            metadata.forEach((key, value) -> {
                if (key.endsWith(".context_length")) {
                    values.put("context", new float[] {((Number) value).floatValue()});
                }
            });
        } catch (RuntimeException e) {
            said.put("gguf", message(e));
            return;
        }
        try (Transformer model = load(gguf, cpu)) {
            logits("gguf", model);
        }
    }

    private void writtenInFourBits(Path base, Device cpu) {
        Path written = folder.resolve("nf4");
        try (ModelSource source = ModelSource.open(base)) {
            BnbOptions options = new BnbOptions(Quantization.NF4_DOUBLE, DType.F32, DType.U8);
            HuggingFaceExport.writeBnb4bit(MergedWeights.of(source), DType.F32, options, written);
        }
        try (Transformer model = load(written, cpu)) {
            logits("nf4", model);
        }
    }

    private static Transformer load(Path path, Device device) {
        try (ModelSource source = ModelSource.open(path)) {
            return ModelLoader.load(source, device, new ModelLoader.Options(DType.F32, null, 2), (done, all) -> {});
        }
    }

    private void logits(String name, Transformer model) {
        for (int i = 0; i < rows.length; i++) {
            values.put(name + ".logits." + i, model.logits(rows[i]));
        }
    }

    /** All tokens are labels; the loss is the mean over all rows' tokens. */
    private void adapter(Transformer model) {
        Path file = folder.resolve("adapter");
        if (!Files.isDirectory(file)) {
            return;
        }
        try (LoraAdapter adapter = AdapterFiles.load(model, AdapterFiles.readConfig(file), file)) {
            Batch batch = new Batch(Arrays.stream(rows).map(ids -> new Batch.Row(ids, ids.clone())).toList());
            adapter.parameters().zeroGradients();
            double sum = 0;
            for (double loss : model.gradients(batch, 1.0 / batch.labelTokens(), 1)) {
                sum += loss;
            }
            values.put("loss", new float[] {(float) (sum / batch.labelTokens())});
            adapter.byName().forEach((name, p) -> {
                float[] gradient = new float[(int) p.gradient().numel()];
                model.device().download(p.gradient(), gradient, 0);
                values.put("grad." + name, gradient);
            });
        } catch (IllegalArgumentException e) {
            said.put("adapter", message(e));
        }
    }

    private static String message(RuntimeException e) {
        return String.valueOf(e.getMessage()).replaceFirst("^/\\S*( \\S*)*?/base/config\\.json: ", "").replace('\n', ' ');
    }

    private void save() throws IOException {
        JSON.writeValue(folder.resolve("said.json").toFile(), said);
        List<TensorSpec> specs = new ArrayList<>();
        int vocabulary = 16;
        values.forEach((name, v) -> specs.add(
                name.contains(".logits.")
                        ? TensorSpec.of(name, DType.F32, v.length / vocabulary, vocabulary)
                        : TensorSpec.of(name, DType.F32, v.length)));
        SafetensorsWriter.write(folder.resolve("ours.safetensors"), specs, (spec, sink) -> {
            float[] v = values.getOrDefault(spec.name(), new float[0]);
            sink.writeFloats(v, 0, v.length);
        });
    }
}
