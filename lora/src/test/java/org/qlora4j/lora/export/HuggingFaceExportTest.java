package org.qlora4j.lora.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.model.UnsupportedModelException;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.QuantType;

class HuggingFaceExportTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int[] IDS = {1, 17, 71, 3, 69, 42, 42, 7};

    @TempDir
    Path folder;

    private static BnbOptions bnb(Quantization quantization, DType storage) {
        return new BnbOptions(quantization, DType.F32, storage);
    }

    private void export(Path model, DType dtype, BnbOptions options, Path to) {
        try (ModelSource source = ModelSource.open(model)) {
            HuggingFaceExport.writeBnb4bit(MergedWeights.of(source), dtype, options, to);
        }
    }

    private static float[] logits(Path model, DType dtype, Quantization quantization) {
        try (Device device = Devices.open("reference", 1);
                ModelSource source = ModelSource.open(model);
                Transformer t = ModelLoader.load(
                        source, device, new ModelLoader.Options(dtype, quantization, 1), (done, all) -> {})) {
            return t.logits(IDS);
        }
    }

    /** Every tensor is the one that bitsandbytes wrote, so transformers computes the same logits. */
    @ParameterizedTest
    @ValueSource(strings = {"nf4", "nf4_dq", "fp4_dq"})
    void writesWhatBitsandbytesWrites(String variant) throws IOException {
        Path base = ExportFiles.golden("models/llama_4bit_tiny");
        Quantization q =
                new Quantization(QuantType.ofBnbName(variant.substring(0, 3)), 64, variant.endsWith("_dq"), List.of());
        export(base.resolve("base"), DType.F32, bnb(q, DType.U8), folder);
        Path golden = base.resolve(variant).resolve("base");
        JsonNode expectedConfig = JSON.readTree(golden.resolve("config.json").toFile());
        JsonNode config = JSON.readTree(folder.resolve("config.json").toFile());
        assertEquals(expectedConfig.path("quantization_config"), config.path("quantization_config"));
        try (Safetensors expected = Safetensors.open(golden);
                Safetensors found = Safetensors.open(folder)) {
            assertEquals(expected.names(), found.names());
            for (String name : expected.names()) {
                StoredTensor e = expected.get(name);
                StoredTensor f = found.get(name);
                assertEquals(e.type(), f.type(), name);
                if (name.contains("quant_state")) {
                    // ours is padded with spaces to a size that is known before the layer is quantized
                    assertEquals(text(expected, e), text(found, f).stripTrailing(), name);
                } else {
                    assertEquals(e.shape(), f.shape(), name);
                    assertArrayEquals(expected.readBytes(e), found.readBytes(f), name);
                }
            }
        }
    }

    private static String text(Safetensors file, StoredTensor t) {
        return new String(file.readBytes(t), StandardCharsets.UTF_8);
    }

    /** What is loaded from the export is what is quantized while the original is loaded: the same bits. */
    @ParameterizedTest
    @ValueSource(strings = {"32", "128", "4096"})
    void loadsToTheSameBits(int blockSize) throws IOException {
        Path base = ExportFiles.golden("models/llama_tied/base");
        Quantization q = new Quantization(QuantType.NF4, blockSize, true, List.of("down_proj", "model.layers.0.mlp"));
        DType storage = blockSize == 32 ? DType.U8 : DType.BF16;
        export(base, DType.BF16, bnb(q, storage), folder);
        try (Safetensors file = Safetensors.open(folder)) {
            assertEquals(storage, dtype(file, "model.layers.0.self_attn.q_proj.weight"));
            assertEquals(DType.BF16, dtype(file, "model.layers.1.mlp.down_proj.weight"));
            assertEquals(DType.BF16, dtype(file, "model.layers.0.mlp.up_proj.weight"));
        }
        JsonNode skipped =
                JSON.readTree(folder.resolve("config.json").toFile()).at("/quantization_config/llm_int8_skip_modules");
        assertEquals("[\"lm_head\",\"down_proj\",\"model.layers.0.mlp\"]", skipped.toString());
        float[] expected = logits(base, DType.BF16, q);
        assertArrayEquals(expected, logits(folder, DType.BF16, null));
        // skipped layers stay as they are even when loading asks for quantization
        assertArrayEquals(expected, logits(folder, DType.BF16, Quantization.NF4_DOUBLE));
    }

    /** Experts are quantized, a router stays in floating point: on disk as in memory. */
    @Test
    void theExpertsOfAMixtureLoadToTheSameBits() {
        Path base = ExportFiles.golden("models/qwen3_moe/base");
        export(base, DType.BF16, bnb(Quantization.NF4_DOUBLE, DType.U8), folder);
        try (Safetensors file = Safetensors.open(folder)) {
            assertEquals(DType.U8, dtype(file, "model.layers.2.mlp.experts.7.down_proj.weight"));
            assertEquals(DType.BF16, dtype(file, "model.layers.2.mlp.gate.weight"));
        }
        float[] expected = logits(base, DType.BF16, Quantization.NF4_DOUBLE);
        assertArrayEquals(expected, logits(folder, DType.BF16, null));
    }

    private static DType dtype(Safetensors file, String name) {
        return file.get(name).type().dtype().orElseThrow();
    }

    /** A 4-bit base that is written in floating point holds what its codes stand for. */
    @Test
    void dequantizesAQuantizedBase() {
        Path quantized = ExportFiles.golden("models/llama_4bit_tiny/nf4_dq/base");
        try (ModelSource source = ModelSource.open(quantized)) {
            MergedWeights weights = MergedWeights.of(source);
            assertTrue(weights.names().stream().noneMatch(name -> name.contains("absmax")));
            HuggingFaceExport.write(weights, DType.F32, folder);
        }
        assertArrayEquals(logits(quantized, DType.F32, null), logits(folder, DType.F32, null));
    }

    @Test
    void otherQuantizationsAreRefusedByName() throws IOException {
        Files.writeString(
                folder.resolve("config.json"),
                "{\"model_type\": \"llama\", \"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}");
        assertTrue(assertThrows(UnsupportedModelException.class, () -> ModelSource.open(folder))
                .getMessage()
                .contains("quant_method 'gptq' is not supported"));
        assertThrows(IllegalArgumentException.class, () -> bnb(Quantization.NF4_DOUBLE, DType.I32));
        assertThrows(
                IllegalArgumentException.class, () -> new Quantization(QuantType.NF4, 64, true, List.of("layer(")));
    }

    @Test
    void skippedModulesMatchAsInTransformers() {
        Quantization q = new Quantization(QuantType.NF4, 64, true, List.of("model.layers.1", "mlp.gate", "fc1"));
        assertTrue(q.quantizes("model.layers.11.mlp.up_proj"));
        assertTrue(q.quantizes("model.layers.2.mlp.gate_proj"));
        assertTrue(!q.quantizes("model.layers.1.mlp.up_proj"));
        assertTrue(!q.quantizes("model.layers.2.mlp.gate"));
        assertTrue(!q.quantizes("model.decoder.layers.23.fc1"));
        assertTrue(!new Quantization(QuantType.NF4, 64, true, List.of("model.layers.*.down_proj"))
                .quantizes("model.layers.3.mlp.down_proj"));
    }
}
