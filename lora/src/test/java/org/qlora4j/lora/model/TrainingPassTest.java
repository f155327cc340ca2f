package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/** Label smoothing, noise and accuracy of training passes, on the reference device. */
class TrainingPassTest {
    private static Device device;
    private static Transformer model;
    private static LoraAdapter adapter;

    @BeforeAll
    @SuppressWarnings("MustBeClosedChecker") // closed after all tests
    static void open() {
        device = Devices.open("reference", 1);
        try (ModelSource source =
                ModelSource.open(Path.of(System.getProperty("qlora4j.golden"), "models/llama/base"))) {
            model = ModelLoader.load(
                    source, device, new ModelLoader.Options(DType.F32, Quantization.NF4_DOUBLE, 2), (done, all) -> {});
        }
        adapter = LoraAdapter.attach(model, LoraConfig.allLinear(4, 16), 7);
    }

    @AfterAll
    static void close() {
        adapter.close();
        model.close();
        device.close();
    }

    private static Batch batch() {
        int[] ids = {5, 9, 11, 40, 7, 3};
        int[] labels = {Batch.IGNORED, 9, Batch.IGNORED, 40, 7, 3};
        int[] more = {8, 2, 30};
        return new Batch(List.of(new Batch.Row(ids, labels), new Batch.Row(more, more)));
    }

    /** rows that lie one behind the other do not see each other, and each begins at position 0. */
    @Test
    void r19ThePackedLossIsThatOfTheRowsAlone() {
        int[] a = {5, 9, 11, 40, 7, 3, 5, 9};
        int[] b = {8, 2, 30};
        int[] c = {5, 9, 11, 40, 7};
        List<Batch.Row> rows = List.of(new Batch.Row(a, a), new Batch.Row(b, b), new Batch.Row(c, c));
        double[] packed = model.losses(new Batch(rows));
        int at = 0;
        for (Batch.Row row : rows) {
            double[] alone = model.losses(new Batch(List.of(row)));
            for (double loss : alone) {
                assertEquals(loss, packed[at++], 1e-12);
            }
        }
        assertEquals(packed.length, at);
    }

    /** The smoothed loss is (1−s)·loss + s·mean over the vocabulary of −log p, as transformers' LabelSmoother says. */
    @Test
    void labelSmoothingIsAMixtureWithAllTokens() {
        double[] plain = model.losses(batch());
        double smoothing = 0.25;
        double[] smooth =
                model.gradients(batch(), new TrainingPass(1, 1, smoothing, 0)).losses();
        float[] logits = model.logits(new int[] {5, 9, 11, 40, 7, 3});
        int vocabulary = logits.length / 6;
        double max =
                IntStream.range(0, vocabulary).mapToDouble(i -> logits[i]).max().orElseThrow();
        double logSum = max
                + Math.log(IntStream.range(0, vocabulary)
                        .mapToDouble(i -> Math.exp(logits[i] - max))
                        .sum());
        double mean = logSum
                - IntStream.range(0, vocabulary)
                        .mapToDouble(i -> logits[i])
                        .average()
                        .orElseThrow();
        assertEquals((1 - smoothing) * plain[0] + smoothing * mean, smooth[0], 1e-5);
    }

    /** Against transformers' LabelSmoother (golden/optim/label_smoothing.json, made by make_label_smoothing.py). */
    @Test
    void labelSmoothingIsTransformers() throws IOException {
        GoldenCase llama = GoldenCase.open("llama");
        JsonNode cases = GoldenCase.JSON
                .readTree(Path.of(System.getProperty("qlora4j.golden"), "optim/label_smoothing.json")
                        .toFile())
                .path("cases");
        assertEquals(2, cases.size());
        try (Transformer plain = llama.load(device)) {
            for (JsonNode c : cases) {
                double smoothing = c.path("label_smoothing_factor").doubleValue();
                for (int i = 0; i < llama.rows().size(); i++) {
                    Batch one = new Batch(List.of(llama.rows().get(i)));
                    double sum = plain.gradients(one, new TrainingPass(1, 1, smoothing, 0))
                            .sum();
                    assertEquals(c.path("losses").path(i).doubleValue(), sum / one.labelTokens(), 1e-5, "row " + i);
                }
            }
        }
    }

    @Test
    void correctCountsTheLabelsThatComeFirst() {
        float[] logits = model.logits(new int[] {8, 2, 30});
        int vocabulary = logits.length / 3;
        int[] best = new int[3];
        for (int row = 0; row < 3; row++) {
            for (int i = 0; i < vocabulary; i++) {
                if (logits[row * vocabulary + i] > logits[row * vocabulary + best[row]]) {
                    best[row] = i;
                }
            }
        }
        Batch one = new Batch(List.of(new Batch.Row(new int[] {8, 2, 30}, new int[] {0, best[0], best[1] ^ 1})));
        assertEquals(1, model.evaluate(one).correct());
    }

    @Test
    void noiseIsAFunctionOfTheSeedAndOffInEvaluation() {
        double[] plain = model.gradients(batch(), 1, 3);
        double[] noisy = model.gradients(batch(), new TrainingPass(1, 3, 0, 5)).losses();
        assertArrayEquals(
                noisy, model.gradients(batch(), new TrainingPass(1, 3, 0, 5)).losses());
        assertFalse(Arrays.equals(
                noisy, model.gradients(batch(), new TrainingPass(1, 4, 0, 5)).losses()));
        assertFalse(Arrays.equals(noisy, plain));
        assertArrayEquals(plain, model.losses(batch()));
    }

    /** Uniform in ±alpha/√(L·C) of each row's own length, so that a row has the same noise wherever it is packed. */
    @Test
    void noiseIsUniformInTheBoundsOfTheRow() {
        int width = 64;
        int[] offsets = {0, 100, 500};
        double alpha = 5;
        try (Scope scope = device.newScope()) {
            Tensor x = scope.newTensor(500, width);
            device.ops().fill(x, 0);
            EmbeddingNoise.add(x, offsets, alpha, device, new Step(device.ops(), scope, true, 11));
            double[] values = new double[500 * width];
            device.download(x, values, 0);
            for (int s = 0; s < 2; s++) {
                int length = offsets[s + 1] - offsets[s];
                double bound = alpha / Math.sqrt((double) length * width);
                double[] row = Arrays.copyOfRange(values, offsets[s] * width, offsets[s + 1] * width);
                double largest = Arrays.stream(row).map(Math::abs).max().orElseThrow();
                assertTrue(largest <= bound && largest > 0.99 * bound, largest + " of " + bound);
                double mean = Arrays.stream(row).average().orElseThrow();
                assertEquals(0, mean, 4 * bound / Math.sqrt(3.0 * row.length));
                double square = Arrays.stream(row).map(v -> v * v).average().orElseThrow();
                assertEquals(bound * bound / 3, square, 0.03 * bound * bound);
            }
        }
    }

    @Test
    void theFirstPartThatIsNotFiniteIsNamed() {
        assertNull(model.firstNotFinite(batch()));
        Tensor b = adapter.byName().entrySet().stream()
                .filter(e -> e.getKey().contains("layers.1.self_attn.o_proj.lora_B"))
                .findFirst()
                .orElseThrow()
                .getValue()
                .value();
        device.ops().fill(b, Double.POSITIVE_INFINITY);
        assertEquals("layer 1", model.firstNotFinite(batch()));
        device.ops().fill(b, 0);
    }
}
