package org.qlora4j.lora.adapter;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.lora.adapter.GoldenModel.GOLDEN;
import static org.qlora4j.lora.adapter.GoldenModel.values;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** How adapters start, and what becomes of PiSSA, OLoRA and LoftQ in files. */
class AdapterStartTest {
    private static final GoldenModel LLAMA = GoldenModel.of("llama_tied");
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

    private static float[] host(Tensor t) {
        float[] values = new float[(int) t.numel()];
        device.download(t, values, 0);
        return values;
    }

    /** scale·B·A */
    private static double[] product(Linear linear) {
        LoraWeights l = linear.lora();
        float[] a = host(l.a().value());
        float[] b = host(l.b().value());
        double[] p = new double[linear.out() * linear.in()];
        for (int o = 0; o < linear.out(); o++) {
            for (int k = 0; k < l.rank(); k++) {
                for (int i = 0; i < linear.in(); i++) {
                    p[o * linear.in() + i] += l.scale() * b[o * l.rank() + k] * (double) a[k * linear.in() + i];
                }
            }
        }
        return p;
    }

    private static double distance(double[] a, double[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += (a[i] - b[i]) * (a[i] - b[i]);
        }
        return Math.sqrt(sum);
    }

    private static double[] doubles(float[] values) {
        double[] d = new double[values.length];
        for (int i = 0; i < d.length; i++) {
            d[i] = values[i];
        }
        return d;
    }

    private static Linear linear(Transformer model, String name) {
        return model.linears().stream()
                .filter(l -> l.name().equals(name))
                .findFirst()
                .orElseThrow();
    }

    @ParameterizedTest
    @ValueSource(strings = {"pissa", "olora", "pissa_niter_8"})
    void startsLikePeftAndChangesNothing(String how) throws IOException {
        LoraConfig config = LoraConfig.builder(3, 5)
                .targetModules(new ModuleSelector.Names(Set.of("k_proj", "down_proj")))
                .initWeights(InitWeights.of(how))
                .build();
        int[] ids = LLAMA.rows().getFirst().ids();
        try (Transformer model = LLAMA.load(device);
                Safetensors golden = Safetensors.open(GOLDEN.resolve("adapters/starts.safetensors"))) {
            float[] base = model.logits(ids);
            try (LoraAdapter adapter = LoraAdapter.attach(model, config, 1)) {
                assertEquals(config, adapter.config());
                assertArrayEquals(base, model.logits(ids), 2e-5f);
                for (String module : List.of("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.down_proj")) {
                    double[] expected = doubles(values(golden, how.replaceAll("_niter.*", "") + "." + module));
                    double error = distance(expected, product(linear(model, module)));
                    // neighbouring singular values of a random matrix are close: eight iterations part them by 1e-2
                    double tolerance = how.contains("niter") ? 0.1 : 2e-3;
                    assertTrue(
                            error < tolerance * distance(expected, new double[expected.length]), module + ": " + error);
                }
            }
            assertArrayEquals(base, model.logits(ids), "the base is what it was");
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"pissa", "olora"})
    void isSavedAsPlainLoraAndTrainsOnFromIt(String how, @TempDir Path folder) throws IOException {
        LoraConfig config = LoraConfig.builder(2, 4)
                .targetModules(new ModuleSelector.Names(Set.of("q_proj", "up_proj")))
                .rankPattern(java.util.Map.of("up_proj", 3))
                .alphaPattern(java.util.Map.of("q_proj", 7.0))
                .initWeights(InitWeights.of(how))
                .build();
        List<Batch.Row> rows = LLAMA.rows();
        int[] ids = rows.getFirst().ids();
        float[] trained;
        float[] gradients;
        try (Transformer model = LLAMA.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, config, 1)) {
            step(model, adapter, rows);
            trained = model.logits(ids);
            AdapterFiles.save(adapter, "base", folder);
            gradients = gradients(model, adapter, rows);
        }
        LoraConfig saved = AdapterFiles.readConfig(folder);
        assertEquals(InitWeights.TRUE, saved.initWeights());
        assertEquals(4, saved.r());
        try (Transformer model = LLAMA.load(device)) {
            try (LoraAdapter plain = AdapterFiles.load(model, saved, folder)) {
                assertEquals(
                        6, linear(model, "model.layers.0.mlp.up_proj").lora().rank());
                assertArrayEquals(trained, model.logits(ids), 1e-5f);
                assertTrue(plain.parameters().count() > 0);
            }
            // a run goes on from the plain file: another seed's start is replaced by the one in the file
            try (LoraAdapter again = LoraAdapter.attach(model, config, 99)) {
                AdapterFiles.readValues(again, folder);
                assertArrayEquals(trained, model.logits(ids), 1e-6f);
                assertArrayEquals(gradients, gradients(model, again, rows));
            }
        }
    }

    private static void step(Transformer model, LoraAdapter adapter, List<Batch.Row> rows) {
        gradients(model, adapter, rows);
        device.ops().add(adapter.parameters().values(), adapter.parameters().gradients(), -0.3);
    }

    private static float[] gradients(Transformer model, LoraAdapter adapter, List<Batch.Row> rows) {
        adapter.parameters().zeroGradients();
        model.gradients(new Batch(rows), 0.02, 5);
        return host(adapter.parameters().gradients());
    }

    @Test
    void loftqBringsTheQuantizedBaseNearerToTheOriginal() throws IOException {
        LoraConfig config =
                LoraConfig.builder(4, 16).initWeights(InitWeights.of("loftq")).build();
        int[] ids = LLAMA.rows().getFirst().ids();
        float[] original;
        try (Transformer model = LLAMA.load(device)) {
            original = model.logits(ids);
        }
        try (Transformer model = GoldenModel.load(LLAMA.base(), device, Quantization.NF4_DOUBLE);
                ModelSource source = ModelSource.open(LLAMA.base())) {
            double quantized = distance(doubles(original), doubles(model.logits(ids)));
            assertThrows(IllegalArgumentException.class, () -> LoraAdapter.attach(model, config, 1));
            try (LoraAdapter adapter = LoraAdapter.attach(model, config, 1, source)) {
                double corrected = distance(doubles(original), doubles(model.logits(ids)));
                assertTrue(corrected < 0.9 * quantized, quantized + " -> " + corrected);
                assertTrue(adapter.targets().size() > 0);
                bestOfItsRank(linear(model, "model.layers.0.mlp.gate_proj"), source);
            }
        }
    }

    /** What is left of the quantization error is orthogonal to what was taken. */
    private static void bestOfItsRank(Linear linear, ModelSource source) {
        float[] w = new float[linear.out() * linear.in()];
        source.tensors().readFloats(source.tensors().get(linear.name() + ".weight"), 0, w.length, w, 0);
        double[] lost = doubles(w);
        try (Scope scope = device.newScope()) {
            Tensor q = scope.newTensor(linear.out(), linear.in());
            device.ops().dequantize(q, linear.frozen());
            float[] kept = host(q);
            for (int i = 0; i < lost.length; i++) {
                lost[i] -= kept[i];
            }
            Tensor all = scope.newTensor(linear.out(), linear.in());
            device.upload(all, lost, 0);
            int full = Math.min(linear.out(), linear.in());
            double[] s = TruncatedSvd.of(device, new Weight.Dense(all), full, 3, new SplittableRandom(1))
                    .s();
            double rest = 0;
            for (int i = linear.lora().rank(); i < s.length; i++) {
                rest += s[i] * s[i];
            }
            assertEquals(Math.sqrt(rest), distance(lost, product(linear)), 1e-3 * Math.sqrt(rest));
        }
    }

    @Test
    void theSameSeedStartsTheSame() {
        try (Transformer model = LLAMA.load(device)) {
            for (String how : List.of("true", "false", "gaussian", "pissa_niter_2", "olora")) {
                LoraConfig config = LoraConfig.builder(2, 4)
                        .initWeights(InitWeights.of(how))
                        .build();
                float[] first;
                try (LoraAdapter a = LoraAdapter.attach(model, config, 5)) {
                    first = host(a.parameters().values());
                }
                try (LoraAdapter b = LoraAdapter.attach(model, config, 5)) {
                    assertArrayEquals(first, host(b.parameters().values()), how);
                }
            }
        }
    }

    @Test
    void doraChangesNothingAtTheStart() throws IOException {
        int[] ids = LLAMA.rows().getFirst().ids();
        try (Transformer model = LLAMA.load(device)) {
            float[] base = model.logits(ids);
            LoraConfig config = LoraConfig.builder(2, 4).useDora(true).build();
            try (LoraAdapter adapter = LoraAdapter.attach(model, config, 5)) {
                assertArrayEquals(base, model.logits(ids), 2e-5f);
                Parameter m = adapter.find("model.layers.0.self_attn.q_proj", AdapterParts.MAGNITUDE);
                assertTrue(host(m.value())[0] > 0);
            }
        }
    }

    @Test
    void whatCannotBeIsRefusedWithTheReason() {
        assertRefused("init_weights 'eva' is not supported", () -> InitWeights.of("eva"));
        assertRefused(
                "use_dora cannot be combined with init_weights pissa",
                () -> LoraConfig.builder(2, 4)
                        .useDora(true)
                        .initWeights(InitWeights.of("pissa"))
                        .build());
        assertRefused(
                "trained whole",
                () -> LoraConfig.builder(2, 4)
                        .modulesToSave(Set.of("embed_tokens"))
                        .trainableTokenIndices(java.util.Map.of("embed_tokens", List.of(1)))
                        .build());
        try (Transformer model = LLAMA.load(device)) {
            assertRefused(
                    "a layer [16, 48] has no 20 singular values",
                    () -> LoraAdapter.attach(
                            model,
                            LoraConfig.builder(20, 4)
                                    .initWeights(InitWeights.of("pissa"))
                                    .build(),
                            1));
            assertRefused(
                    "there is no token 320, the model has 320",
                    () -> LoraAdapter.attach(
                            model,
                            LoraConfig.builder(2, 4)
                                    .trainableTokenIndices(java.util.Map.of("embed_tokens", List.of(320)))
                                    .build(),
                            1));
            assertRefused(
                    "modules_to_save 'norm' is not supported; supported: lm_head, embed_tokens",
                    () -> LoraAdapter.attach(
                            model,
                            LoraConfig.builder(2, 4)
                                    .modulesToSave(Set.of("norm"))
                                    .build(),
                            1));
            // a failed start leaves the model free
            LoraAdapter.attach(model, LoraConfig.allLinear(2, 4), 1).close();
        }
    }

    private static void assertRefused(String message, org.junit.jupiter.api.function.Executable call) {
        String found = assertThrows(IllegalArgumentException.class, call).getMessage();
        assertTrue(found.contains(message), found);
    }
}
