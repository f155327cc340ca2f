package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** Weights kept in 8 bits: the layout, the error, and what it does to logits. */
class Int8LoadTest {
    private static final int[] IDS = {1, 78, 277, 78, 244, 74, 248, 258};
    private static Device device;

    @BeforeAll
    static void open() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        device = Devices.open("cpu", 2);
    }

    @AfterAll
    static void close() {
        device.close();
    }

    private static Transformer load(ModelLoader.Int8 int8) {
        Path base = Path.of(System.getProperty("qlora4j.golden"), "models", "llama_tied", "base");
        try (ModelSource source = ModelSource.open(base)) {
            return ModelLoader.load(
                    source, device, new ModelLoader.Options(DType.F32, null, 2, int8), (done, all) -> {});
        }
    }

    private static float[] values(Weight w) {
        try (Scope scope = device.newScope()) {
            Tensor t = scope.newTensor(w.rows(), w.cols());
            device.ops().dequantize(t, w);
            float[] values = new float[w.rows() * w.cols()];
            device.download(t, values, 0);
            return values;
        }
    }

    @Test
    void roundsToTheNearestCodeOfTheRow() {
        try (Transformer exact = load(ModelLoader.Int8.NOTHING);
                Transformer eight = load(new ModelLoader.Int8(true, true))) {
            Weight embedding = eight.embedding().frozen();
            assertInstanceOf(Weight.Int8.class, embedding);
            assertSame(embedding, eight.outputLayer().frozen(), "tied");
            assertEquals(embedding.rows() * (embedding.cols() + 4L), embedding.bytes());
            for (int i = 0; i < exact.linears().size(); i++) {
                Weight w = exact.linears().get(i).frozen();
                assertInstanceOf(Weight.Int8.class, eight.linears().get(i).frozen());
                float[] expected = values(w);
                float[] found = values(eight.linears().get(i).frozen());
                for (int r = 0; r < w.rows(); r++) {
                    float largest = 0;
                    for (int c = 0; c < w.cols(); c++) {
                        largest = Math.max(largest, Math.abs(expected[r * w.cols() + c]));
                    }
                    for (int c = 0; c < w.cols(); c++) {
                        int at = r * w.cols() + c;
                        // half a step, and fp32's rounding
                        assertEquals(expected[at], found[at], 0.5f / 127 * largest * 1.0001f);
                    }
                }
            }
        }
    }

    @Test
    void logitsStayClose() {
        float[] expected;
        try (Transformer model = load(ModelLoader.Int8.NOTHING)) {
            expected = model.logits(IDS);
        }
        double onlyEmbeddings;
        try (Transformer model = load(new ModelLoader.Int8(false, true))) {
            onlyEmbeddings = error(expected, model.logits(IDS));
        }
        double all;
        try (Transformer model = load(new ModelLoader.Int8(true, true))) {
            all = error(expected, model.logits(IDS));
        }
        assertTrue(onlyEmbeddings > 0 && onlyEmbeddings < 0.02, "embeddings: " + onlyEmbeddings);
        assertTrue(all > onlyEmbeddings && all < 0.04, "all: " + all);
    }

    private static double error(float[] expected, float[] found) {
        double error = 0;
        double size = 0;
        for (int i = 0; i < expected.length; i++) {
            error += Math.pow(expected[i] - found[i], 2);
            size += Math.pow(expected[i], 2);
        }
        return Math.sqrt(error / size);
    }

    @Test
    void skippedModulesStayInFloatingPoint() {
        List<String> skip = List.of("down_proj", "model.layers.0.self_attn");
        try (Transformer model = load(new ModelLoader.Int8(true, false, skip))) {
            for (Linear linear : model.linears()) {
                boolean skipped = linear.name().endsWith("down_proj")
                        || linear.name().startsWith("model.layers.0.self_attn.")
                        || linear.name().equals("lm_head");
                assertEquals(skipped, linear.frozen() instanceof Weight.Dense, linear.name());
            }
        }
        assertThrows(IllegalArgumentException.class, () -> new ModelLoader.Int8(true, false, List.of("(")));
    }

    /** What an LLM.int8 checkpoint kept in floating point stays so, whatever is asked for. */
    @Test
    void aCheckpointSaysWhatItSkipped(@TempDir Path folder) throws IOException {
        Path base = Path.of(System.getProperty("qlora4j.golden"), "models", "llama_tied", "base");
        Files.copy(base.resolve("model.safetensors"), folder.resolve("model.safetensors"));
        ObjectNode config = ModelSource.readObject(base.resolve("config.json"));
        config.putObject("quantization_config")
                .put("quant_method", "bitsandbytes")
                .put("load_in_8bit", true)
                .putArray("llm_int8_skip_modules")
                .add("o_proj");
        GoldenCase.JSON.writeValue(folder.resolve("config.json").toFile(), config);
        ModelLoader.Options options =
                new ModelLoader.Options(DType.F32, null, 2, new ModelLoader.Int8(true, false, List.of("up_proj")));
        try (ModelSource source = ModelSource.open(folder);
                Transformer model = ModelLoader.load(source, device, options, (done, all) -> {})) {
            for (Linear linear : model.linears()) {
                boolean skipped = linear.name().matches(".*(o_proj|up_proj|lm_head)");
                assertEquals(skipped, linear.frozen() instanceof Weight.Dense, linear.name());
            }
        }
    }

    @Test
    void fourAndEightBitsExcludeEachOther() {
        String message = assertThrows(
                        IllegalArgumentException.class,
                        () -> new ModelLoader.Options(
                                DType.F32, Quantization.NF4_DOUBLE, 1, new ModelLoader.Int8(true, false)))
                .getMessage();
        assertTrue(message.contains("4 or to 8 bits"), message);
    }
}
