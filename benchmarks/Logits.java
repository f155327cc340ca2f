import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;

/** Writes the logits [48, vocabulary] of a model, and of an adapter on it, for 48 tokens: Logits OUT MODEL [ADAPTER]. */
class Logits {
    public static void main(String[] args) {
        // spread over the vocabulary by a multiplicative hash; roundtrip.py has the same
        int[] ids = IntStream.range(1, 49).map(i -> (int) (i * 2654435761L % 49152)).toArray();
        try (Device device = Devices.open("cpu", 1);
                ModelSource source = ModelSource.open(Path.of(args[1]));
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {});
                LoraAdapter adapter = args.length < 3 ? null : adapter(model, Path.of(args[2]))) {
            float[] logits = model.logits(ids);
            long vocabulary = logits.length / ids.length;
            SafetensorsWriter.write(
                    Path.of(args[0]),
                    List.of(TensorSpec.of("logits", DType.F32, ids.length, vocabulary)),
                    (spec, sink) -> sink.writeFloats(logits, 0, logits.length));
        }
    }

    private static LoraAdapter adapter(Transformer model, Path folder) {
        return AdapterFiles.load(model, AdapterFiles.readConfig(folder), folder);
    }
}
