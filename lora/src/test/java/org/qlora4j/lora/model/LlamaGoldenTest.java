package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.lora.export.HuggingFaceExport;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.tensor.DType;

/** Accumulating, merging and saving on llama cases, against what transformers and peft computed. */
class LlamaGoldenTest {
    private static final double LOGITS = 2e-4;

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

    @ParameterizedTest
    @ValueSource(strings = {"llama", "llama_tied", "llama_4bit_tiny/nf4_dq"})
    void accumulationIsABatch(String name) throws IOException {
        GoldenCase c = GoldenCase.open(name);
        try (Transformer model = c.load(device);
                LoraAdapter adapter = c.attach(model)) {
            int labels = c.labelTokens();
            adapter.parameters().zeroGradients();
            model.gradients(new Batch(c.rows()), 1.0 / labels, 7);
            float[] plain = GoldenCase.download(device, adapter.parameters().gradients());
            adapter.parameters().zeroGradients();
            for (Batch.Row row : c.rows()) {
                model.gradients(new Batch(List.of(row)), 1.0 / labels, 7);
            }
            double error = GoldenCase.relative(
                    plain, GoldenCase.download(device, adapter.parameters().gradients()));
            // 1.1e-6 seen in fp32: a row and a batch divide the products with A and B into other sums
            assertTrue(error < 2e-6, "accumulated against batch: relative error " + error);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "llama_tied", "llama_4bit_tiny"})
    void theMergedModelAnswersAsTheAdapter(String name, @TempDir Path folder) throws IOException {
        GoldenCase c = GoldenCase.open(name);
        int[] ids = c.rows().getFirst().ids();
        Path merged = folder.resolve("merged");
        try (Transformer model = c.load(device);
                LoraAdapter adapter = c.attach(model);
                ModelSource source = ModelSource.open(c.base())) {
            HuggingFaceExport.write(MergedWeights.of(source, adapter), DType.F32, merged);
        }
        try (ModelSource source = ModelSource.open(merged);
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 2), (done, all) -> {});
                Safetensors golden = c.tensors()) {
            assertArrayEquals(GoldenCase.values(golden, "logits.adapter"), model.logits(ids), (float) LOGITS);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "llama_tied", "llama_4bit_tiny"})
    void savedAdaptersHaveThePeftFiles(String name, @TempDir Path folder) throws IOException {
        GoldenCase c = GoldenCase.open(name);
        try (Transformer model = c.load(device);
                LoraAdapter adapter = c.attach(model)) {
            AdapterFiles.save(adapter, "golden/" + c.shared().getFileName(), folder);
            assertEquals(
                    GoldenCase.JSON.readTree(c.shared()
                            .resolve("adapter_init/adapter_config.json")
                            .toFile()),
                    GoldenCase.JSON.readTree(folder.resolve(AdapterFiles.CONFIG).toFile()));
            try (Safetensors expected =
                            Safetensors.open(c.shared().resolve("adapter_init").resolve(AdapterFiles.WEIGHTS));
                    Safetensors found = Safetensors.open(folder.resolve(AdapterFiles.WEIGHTS))) {
                assertEquals(expected.names(), found.names());
                for (String tensor : expected.names()) {
                    assertEquals(expected.get(tensor).type(), found.get(tensor).type(), tensor);
                    assertArrayEquals(GoldenCase.values(expected, tensor), GoldenCase.values(found, tensor), tensor);
                }
            }
        }
    }
}
