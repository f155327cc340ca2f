package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.tensor.Parameter;

/**
 * Every case of every family on one device against what transformers, peft and bitsandbytes computed; tolerances are
 * those of golden/README.md. R-02: training is that of PyTorch, step by step.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
abstract class GoldenModels {
    private static final double LOGITS = 2e-4;
    private static final double ROW_LOSS = 5e-5;
    private static final double GRADIENT = 1e-4;
    private static final double TRAINING_LOSS = 2e-3;
    private static final double FINAL_ADAPTER = 5e-3;

    private final Device device;

    GoldenModels(Device device) {
        this.device = device;
    }

    @AfterAll
    void close() {
        device.close();
    }

    static Set<String> cases() throws IOException {
        return GoldenCase.names();
    }

    @ParameterizedTest
    @MethodSource("cases")
    void logitsLossesAndGradients(String name) throws IOException {
        GoldenCase c = GoldenCase.open(name);
        try (Transformer model = c.load(device);
                Safetensors golden = c.tensors()) {
            int[] first = c.rows().getFirst().ids();
            double logits = apart(golden, "logits.base", model.logits(first));
            double losses = 0;
            double gradients = 0;
            try (LoraAdapter adapter = c.attach(model)) {
                logits = Math.max(logits, apart(golden, "logits.adapter", model.logits(first)));
                assertTrue(logits <= LOGITS, "logits differ by " + logits);
                for (int i = 0; i < c.rows().size(); i++) {
                    double expected = c.expected()
                            .path("rows")
                            .path(i)
                            .path("loss_adapter")
                            .doubleValue();
                    double found = GoldenCase.mean(
                            model.losses(new Batch(List.of(c.rows().get(i)))));
                    assertEquals(expected, found, ROW_LOSS, "row " + i);
                    losses = Math.max(losses, Math.abs(expected - found));
                }
                adapter.parameters().zeroGradients();
                model.gradients(new Batch(c.rows()), 1.0 / c.labelTokens(), 1);
                for (Map.Entry<String, Parameter> e : adapter.byName().entrySet()) {
                    String key = golden.names().contains(e.getKey()) ? e.getKey() : "grad." + e.getKey();
                    float[] found = GoldenCase.download(device, e.getValue().gradient());
                    double error = GoldenCase.relative(GoldenCase.values(golden, key), found);
                    assertTrue(error < GRADIENT, e.getKey() + ": relative error " + error);
                    gradients = Math.max(gradients, error);
                }
            }
            System.out.printf(
                    Locale.ROOT,
                    "golden %s on %s: logits within %.1e, row losses %.1e, gradients %.1e (relative)%n",
                    name,
                    device.name(),
                    logits,
                    losses,
                    gradients);
        }
    }

    /** The largest difference. */
    private static double apart(Safetensors golden, String name, float[] found) {
        float[] expected = GoldenCase.values(golden, name);
        assertEquals(expected.length, found.length, name);
        double largest = 0;
        for (int i = 0; i < found.length; i++) {
            assertTrue(Float.isFinite(found[i]), name + " [" + i + "] is " + found[i]);
            largest = Math.max(largest, Math.abs((double) expected[i] - found[i]));
        }
        return largest;
    }

    @ParameterizedTest
    @MethodSource("cases")
    void tenTrainingSteps(String name) throws IOException {
        GoldenCase c = GoldenCase.open(name);
        JsonNode train = c.expected().path("train");
        JsonNode hyper = train.path("hyper");
        try (Transformer model = c.load(device);
                LoraAdapter adapter = c.attach(model);
                Scope scope = device.newScope()) {
            int n = adapter.parameters().values().cols();
            OptimizerRule rule = new OptimizerRule.AdamW(
                    hyper.path("betas").path(0).doubleValue(),
                    hyper.path("betas").path(1).doubleValue(),
                    hyper.path("eps").doubleValue(),
                    hyper.path("weight_decay").doubleValue(),
                    true);
            OptimizerState state = OptimizerState.Full.allocate(scope, rule, n);
            device.ops().fill(state.state1(), 0);
            device.ops().fill(state.state2(), 0);
            for (JsonNode step : train.path("steps")) {
                int s = step.path("step").intValue();
                Batch batch = new Batch(List.of(c.rows().get(step.path("row").intValue())));
                adapter.parameters().zeroGradients();
                double loss = GoldenCase.mean(model.gradients(batch, 1.0 / batch.labelTokens(), s));
                assertEquals(step.path("loss").doubleValue(), loss, TRAINING_LOSS, "step " + s);
                double norm =
                        Math.sqrt(device.ops().sumOfSquares(adapter.parameters().gradients()));
                double clip = Math.min(1, hyper.path("max_grad_norm").doubleValue() / (norm + 1e-6));
                device.ops()
                        .optimizerStep(
                                adapter.parameters().values(),
                                adapter.parameters().gradients(),
                                state,
                                new OptimizerStep(rule, s, hyper.path("lr").doubleValue(), clip));
            }
            try (Safetensors golden =
                    Safetensors.open(c.folder().resolve("adapter_final").resolve(AdapterFiles.WEIGHTS))) {
                for (Map.Entry<String, Parameter> e : adapter.byName().entrySet()) {
                    assertArrayEquals(
                            GoldenCase.values(golden, e.getKey()),
                            GoldenCase.download(device, e.getValue().value()),
                            (float) FINAL_ADAPTER,
                            e.getKey());
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("cases")
    void greedyTokensWithTheCache(String name) throws IOException {
        GoldenCase c = GoldenCase.open(name);
        JsonNode greedy = c.expected().path("greedy");
        try (Transformer model = c.load(device);
                LoraAdapter adapter = c.attach(model);
                Scope scope = device.newScope()) {
            assertTrue(adapter.parameters().count() > 0, name);
            int prompt = greedy.path("prompt_tokens").intValue();
            int[] row = c.rows().get(greedy.path("row").intValue()).ids();
            int[] ids = Arrays.copyOf(row, prompt);
            KvCache cache = model.newCache(prompt + greedy.path("new_tokens").size(), scope);
            for (JsonNode expected : greedy.path("new_tokens")) {
                float[] logits = model.nextLogits(ids, cache);
                int best = 0;
                for (int i = 1; i < logits.length; i++) {
                    if (logits[i] > logits[best]) {
                        best = i;
                    }
                }
                assertEquals(expected.intValue(), best);
                ids = new int[] {best};
            }
        }
    }
}
