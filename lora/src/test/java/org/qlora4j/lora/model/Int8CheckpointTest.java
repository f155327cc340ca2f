package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.Weight;

/** A checkpoint in LLM.int8 as transformers saves it, see src/test/resources/README.md. */
class Int8CheckpointTest {
    private static final String DOWN = "model.layers.0.mlp.down_proj.weight";

    @TempDir
    Path folder;

    private static Path checkpoint() throws URISyntaxException {
        return Path.of(Objects.requireNonNull(Int8CheckpointTest.class.getResource("int8"))
                .toURI());
    }

    private static float[] floats(TensorFiles files, String name) {
        StoredTensor t = files.get(name);
        float[] values = new float[(int) t.elements()];
        files.readFloats(t, 0, values.length, values, 0);
        return values;
    }

    @Test
    void loadsTheDequantizedWeights() throws URISyntaxException {
        try (Device device = Devices.open("reference", 1);
                ModelSource source = ModelSource.open(checkpoint());
                Safetensors expected = Safetensors.open(checkpoint().resolve("expected.safetensors"));
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {})) {
            TensorFiles dequantized = DequantizedFiles.of(source.tensors());
            float[] weight = floats(expected, DOWN);
            assertArrayEquals(weight, floats(dequantized, DOWN));
            // a range that starts and ends inside rows
            float[] part = new float[100];
            dequantized.readFloats(dequantized.get(DOWN), 40, 100, part, 0);
            assertArrayEquals(java.util.Arrays.copyOfRange(weight, 40, 140), part);
            assertTrue(dequantized.names().stream().noneMatch(n -> n.contains("SCB") || n.contains("format")));
            float[] logits = model.logits(new int[] {1, 17, 63, 3, 9, 42, 42, 7});
            assertArrayEquals(floats(expected, "logits"), logits, 2e-5f);
        }
    }

    /** With quant_bits 8 nothing is quantized again. */
    @Test
    void keepsItsCodesInEightBits() throws URISyntaxException {
        ModelLoader.Options options = new ModelLoader.Options(DType.F32, null, 1, new ModelLoader.Int8(true, false));
        try (Device device = Devices.open("reference", 1);
                ModelSource source = ModelSource.open(checkpoint());
                Safetensors expected = Safetensors.open(checkpoint().resolve("expected.safetensors"));
                Transformer model = ModelLoader.load(source, device, options, (done, all) -> {})) {
            for (Linear linear : model.linears()) {
                if (linear != model.outputLayer()) {
                    Weight.Int8 weight = assertInstanceOf(Weight.Int8.class, linear.frozen());
                    byte[] codes = new byte[(int) weight.codes().numel()];
                    device.download(weight.codes(), codes, 0);
                    StoredTensor stored = source.tensors().get(linear.name() + ".weight");
                    assertArrayEquals(source.tensors().readBytes(stored), codes, linear.name());
                }
            }
            float[] logits = model.logits(new int[] {1, 17, 63, 3, 9, 42, 42, 7});
            assertArrayEquals(floats(expected, "logits"), logits, 2e-5f);
        }
    }

    /** A copy of the checkpoint with other bytes for one tensor. */
    private Path changed(String name, DType dtype, byte[] bytes, long... shape) throws URISyntaxException, IOException {
        Files.copy(checkpoint().resolve("config.json"), folder.resolve("config.json"));
        try (Safetensors file = Safetensors.open(checkpoint())) {
            List<TensorSpec> specs = new ArrayList<>();
            for (String each : file.names()) {
                StoredTensor t = file.get(each);
                specs.add(
                        each.equals(name)
                                ? TensorSpec.of(name, dtype, shape)
                                : new TensorSpec(each, t.type().dtype().orElseThrow(), t.shape()));
            }
            SafetensorsWriter.write(
                    folder.resolve("model.safetensors"),
                    specs,
                    (spec, sink) ->
                            sink.write(spec.name().equals(name) ? bytes : file.readBytes(file.get(spec.name()))));
        }
        return folder;
    }

    private static String refusal(Path model) {
        try (ModelSource source = ModelSource.open(model)) {
            return String.valueOf(assertThrows(ModelFormatException.class, () -> DequantizedFiles.of(source.tensors()))
                    .getMessage());
        }
    }

    @Test
    void layoutsOfOneKindOfGpuAreRefused() throws URISyntaxException, IOException {
        String message = refusal(changed("model.layers.0.mlp.down_proj.weight_format", DType.U8, new byte[] {1}));
        assertTrue(message.contains("not stored row by row"), message);
    }

    @Test
    void scalesMustFitTheRows() throws URISyntaxException, IOException {
        String message = refusal(changed("model.layers.0.mlp.down_proj.SCB", DType.F32, new byte[4], 1));
        assertTrue(message.contains("must hold 32 floats"), message);
    }
}
