package org.qlora4j.lora.adapter;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.export.HuggingFaceExport;
import org.qlora4j.lora.model.LoadedBase;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;

/** what merging changes, on the original and on the dequantized base, and with tied embeddings. */
class MergedModelTest {
    private static final int[] IDS = {1, 5, 9, 13, 2, 7, 11, 3, 60, 61, 62, 17};
    private static Device device;

    @TempDir
    Path folder;

    @BeforeAll
    static void open() {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        device = Devices.open("cpu", 2);
    }

    @AfterAll
    static void close() {
        device.close();
    }

    private static ModelSource source(String model) {
        return ModelSource.open(Path.of(System.getProperty("qlora4j.golden"), "models", model, "base"));
    }

    private static Transformer load(ModelSource source, @Nullable Quantization quantization) {
        return ModelLoader.load(source, device, new ModelLoader.Options(DType.F32, quantization, 1), (done, all) -> {});
    }

    /** An adapter that changes the model. */
    private static LoraAdapter attach(Transformer model, LoraConfig config) {
        LoraAdapter adapter = LoraAdapter.attach(model, config, 3);
        for (Parameter p : adapter.parameters().parameters()) {
            float[] values = new float[Math.toIntExact(p.value().numel())];
            for (int i = 0; i < values.length; i++) {
                values[i] = (float) Math.sin(i * 0.7 + values.length) * 0.05f;
            }
            device.upload(p.value(), values, 0);
        }
        return adapter;
    }

    /** The merged model, written and loaded, against the adapter. */
    private LogitDifference difference(LoraAdapter adapter, ModelSource base, String name) {
        Transformer model = adapter.model();
        float[] reference = model.logits(IDS);
        Path merged = folder.resolve(name);
        HuggingFaceExport.write(MergedWeights.of(base, adapter), DType.F32, merged);
        try (ModelSource source = ModelSource.open(merged);
                Transformer other = load(source, null)) {
            return LogitDifference.of(
                    List.of(reference),
                    List.of(other.logits(IDS)),
                    model.config().vocabSize());
        }
    }

    @Test
    void onTheDequantizedBaseNothingChangesOnTheOriginalOneTheQuantizationComesOut() {
        try (ModelSource source = source("llama");
                Transformer model = load(source, Quantization.NF4_DOUBLE);
                LoraAdapter adapter = attach(model, LoraConfig.allLinear(4, 8))) {
            LogitDifference dequantized = difference(adapter, LoadedBase.of(source, model), "dequantized");
            // fp32: products of the merged matrix instead of two low-rank ones
            assertTrue(dequantized.largest() < 1e-3 && dequantized.kl() < 1e-7, dequantized.toString());
            assertEquals(1, dequantized.sameChoice());
            LogitDifference original = difference(adapter, source, "original");
            assertTrue(original.largest() > 10 * dequantized.largest(), original + " and " + dequantized);
            assertTrue(original.kl() > 1000 * Math.abs(dequantized.kl()), original + " and " + dequantized);
        }
    }

    @Test
    void expertsAndRoutersMerge() {
        try (ModelSource source = source("qwen3_moe");
                Transformer model = load(source, null);
                LoraAdapter adapter = attach(model, LoraConfig.allLinear(2, 4))) {
            assertTrue(adapter.byName().keySet().stream().anyMatch(name -> name.endsWith("mlp.gate.lora_A.weight")));
            assertTrue(adapter.byName().keySet().stream()
                    .anyMatch(name -> name.endsWith("mlp.experts.7.down_proj.lora_B.weight")));
            LogitDifference d = difference(adapter, source, "mixture");
            assertTrue(d.largest() < 1e-3 && d.kl() < 1e-7, d.toString());
        }
    }

    /** They start as they were, are taken out with the adapter, and replace the base's when merged. */
    @ParameterizedTest
    @EnumSource(names = {"ALL", "LORA_ONLY"})
    void trainedBiases(BiasTraining which) {
        LoraConfig config = LoraConfig.builder(2, 4)
                .targetModules(new ModuleSelector.Names(Set.of("q_proj", "down_proj")))
                .bias(which)
                .build();
        try (ModelSource source = source("llama_tied");
                Transformer model = load(source, null)) {
            float[] before = model.logits(IDS);
            try (LoraAdapter untrained = LoraAdapter.attach(model, config, 1)) {
                assertArrayEquals(before, model.logits(IDS));
                long biases = untrained.byName().keySet().stream()
                        .filter(name -> name.endsWith("bias"))
                        .count();
                // q, k, v and o have biases
                int each = which == BiasTraining.ALL ? 4 : 1;
                assertEquals(each * source.config().numLayers(), (int) biases);
            }
            try (LoraAdapter adapter = attach(model, config)) {
                LogitDifference d = difference(adapter, source, "biases " + which);
                assertTrue(d.largest() < 1e-3 && d.kl() < 1e-7, d.toString());
                adapter.detach();
                assertArrayEquals(before, model.logits(IDS));
            }
        }
    }

    @Test
    void aTiedHeadThatWasTrainedBecomesItsOwn() {
        try (ModelSource source = source("llama_tied");
                Transformer model = load(source, null);
                LoraAdapter adapter = attach(
                        model,
                        LoraConfig.builder(4, 8)
                                .targetModules(new ModuleSelector.Names(Set.of("lm_head", "q_proj")))
                                .build())) {
            assertTrue(source.config().tieWordEmbeddings());
            LogitDifference d = difference(adapter, source, "merged");
            try (ModelSource merged = ModelSource.open(folder.resolve("merged"))) {
                assertFalse(merged.config().tieWordEmbeddings());
            }
            assertTrue(d.largest() < 1e-3 && d.kl() < 1e-7, d.toString());
        }
    }

    @Test
    void aBaseThatIsIn4BitsOnDiskMergesIntoWhatItsCodesStandFor() {
        try (ModelSource source = source("llama_4bit_tiny/nf4_dq");
                Transformer model = load(source, null);
                LoraAdapter adapter = attach(model, LoraConfig.allLinear(4, 8))) {
            LogitDifference d = difference(adapter, LoadedBase.of(source, model), "from 4 bits");
            assertTrue(d.largest() < 1e-3 && d.kl() < 1e-7, d.toString());
            assertThrows(
                    IllegalArgumentException.class,
                    () -> HuggingFaceExport.write(
                            MergedWeights.of(source, adapter), DType.F32, folder.resolve("none")));
        }
    }

    @Test
    void aBaseThatIsNotQuantizedHasNoDequantizedForm() {
        try (ModelSource source = source("llama");
                Transformer model = load(source, null)) {
            assertThrows(IllegalArgumentException.class, () -> LoadedBase.of(source, model));
        }
    }

    @Test
    void differencesAreWhatTheirNamesSay() {
        float[] p = {0, (float) Math.log(3), 1, 1};
        float[] shifted = {5, 5 + (float) Math.log(3), 1, 1};
        LogitDifference same = LogitDifference.of(List.of(p), List.of(shifted), 2);
        assertEquals(2, same.positions());
        assertEquals(0, same.largest(), 1e-6);
        assertEquals(0, same.kl(), 1e-6);
        // p = (1/4, 3/4) against q = (3/4, 1/4) in the first position, equal ones in the second
        LogitDifference turned = LogitDifference.of(List.of(p), List.of(new float[] {(float) Math.log(3), 0, 1, 1}), 2);
        assertEquals(0.5 * Math.log(3) / 2, turned.kl(), 1e-6);
        assertEquals(Math.log(3), turned.largest(), 1e-6);
        assertEquals(0.5, turned.sameChoice());
        assertThrows(IllegalArgumentException.class, () -> LogitDifference.of(List.of(p), List.of(new float[2]), 2));
    }
}
