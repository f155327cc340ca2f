package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.DoubleStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.adapter.ModuleSelector;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The whole backward pass against differences of the loss, in double: every element of every trained matrix of a tiny
 * random model, through attention, feed-forward, norms, residual stream and loss head.
 */
class TransformerGradientTest {
    private static final double STEP = 1e-3;
    private static final double TOLERANCE = 1e-7;
    private static final long SEED = 5;
    private static final int VOCAB = 11;

    /** Two rows of different lengths in one batch; some positions carry no label. */
    private static final Batch BATCH = new Batch(List.of(
            new Batch.Row(new int[] {1, 4, 7, 2, 9}, new int[] {-100, -100, 7, 2, 9}),
            new Batch.Row(new int[] {3, 3, 10, 0, 6, 8, 5}, new int[] {-100, 3, -100, 0, 6, -100, 5})));

    @TempDir
    Path folder;

    private final SplittableRandom random = new SplittableRandom(3);

    private static final String MOE = """
            {"model_type": "qwen3_moe", "head_dim": 4, "num_experts": 3, "num_experts_per_tok": 2,
             "moe_intermediate_size": 5, "norm_topk_prob": %s, "mlp_only_layers": %s}""";

    /**
     * Writes a random model of 2 layers of width 8, a Llama or with a mixture of experts. @param extra what config.json
     * says beside the sizes, as JSON
     */
    private Path model(String extra) throws IOException {
        ObjectMapper mapper = new ObjectMapper();
        ObjectNode config = mapper.createObjectNode()
                .put("model_type", "llama")
                .put("vocab_size", VOCAB)
                .put("hidden_size", 8)
                .put("intermediate_size", 12)
                .put("num_hidden_layers", 2)
                .put("num_attention_heads", 2)
                .put("num_key_value_heads", 1)
                .put("max_position_embeddings", 64)
                .put("rms_norm_eps", 1e-3)
                .put("hidden_act", "silu")
                .put("torch_dtype", "float32");
        config.setAll((ObjectNode) mapper.readTree(extra));
        Files.writeString(folder.resolve("config.json"), config.toString());
        List<TensorSpec> tensors = new ArrayList<>();
        tensors.add(f32("model.embed_tokens.weight", VOCAB, 8));
        for (int layer = 0; layer < 2; layer++) {
            int number = layer;
            String prefix = "model.layers." + layer + ".";
            tensors.add(f32(prefix + "input_layernorm.weight", 8));
            tensors.add(f32(prefix + "post_attention_layernorm.weight", 8));
            linear(tensors, prefix + "self_attn.q_proj", 8, 8, config.path("attention_bias"));
            linear(tensors, prefix + "self_attn.k_proj", 4, 8, config.path("attention_bias"));
            linear(tensors, prefix + "self_attn.v_proj", 4, 8, config.path("attention_bias"));
            linear(tensors, prefix + "self_attn.o_proj", 8, 8, config.path("attention_bias"));
            boolean experts = config.has("num_experts")
                    && config.path("mlp_only_layers").valueStream().noneMatch(dense -> dense.intValue() == number);
            if (config.has("num_experts")) {
                tensors.add(f32(prefix + "self_attn.q_norm.weight", 4));
                tensors.add(f32(prefix + "self_attn.k_norm.weight", 4));
            }
            if (!experts) {
                mlp(tensors, prefix + "mlp.", 12, config.path("mlp_bias"));
                continue;
            }
            tensors.add(
                    f32(prefix + "mlp.gate.weight", config.path("num_experts").intValue(), 8));
            for (int e = 0; e < config.path("num_experts").intValue(); e++) {
                mlp(
                        tensors,
                        prefix + "mlp.experts." + e + ".",
                        config.path("moe_intermediate_size").intValue(),
                        config.path("mlp_bias"));
            }
        }
        tensors.add(f32("model.norm.weight", 8));
        if (!config.path("tie_word_embeddings").booleanValue()) {
            tensors.add(f32("lm_head.weight", VOCAB, 8));
        }
        SafetensorsWriter.write(folder.resolve("model.safetensors"), tensors, (tensor, sink) -> {
            float[] values = new float[(int) tensor.elements()];
            for (int i = 0; i < values.length; i++) {
                values[i] = (float) random.nextDouble(-0.7, 0.7);
            }
            sink.writeFloats(values, 0, values.length);
        });
        return folder;
    }

    private static TensorSpec f32(String name, long... shape) {
        return TensorSpec.of(name, DType.F32, shape);
    }

    private static void mlp(List<TensorSpec> tensors, String prefix, int width, JsonNode bias) {
        linear(tensors, prefix + "gate_proj", width, 8, bias);
        linear(tensors, prefix + "up_proj", width, 8, bias);
        linear(tensors, prefix + "down_proj", 8, width, bias);
    }

    private static void linear(List<TensorSpec> tensors, String name, int out, int in, JsonNode bias) {
        tensors.add(f32(name + ".weight", out, in));
        if (bias.booleanValue()) {
            tensors.add(f32(name + ".bias", out));
        }
    }

    private static Transformer load(Path path, Device device, boolean nf4) {
        try (ModelSource source = ModelSource.open(path)) {
            return ModelLoader.load(
                    source,
                    device,
                    new ModelLoader.Options(DType.F32, nf4 ? Quantization.NF4_DOUBLE : null, 1),
                    (done, all) -> {});
        }
    }

    /** All values random, B too, so that every gradient is there. */
    private void randomize(Device device, LoraAdapter adapter) {
        adapter.parameters().parameters().forEach(p -> {
            double[] values = new double[(int) p.value().numel()];
            for (int i = 0; i < values.length; i++) {
                values[i] = random.nextDouble(-0.5, 0.5);
            }
            device.upload(p.value(), values, 0);
        });
    }

    private static double loss(Transformer model) {
        return DoubleStream.of(model.gradients(BATCH, 0.2, SEED)).sum() * 0.2;
    }

    private static double[] values(Device device, Tensor t) {
        double[] values = new double[(int) t.numel()];
        device.download(t, values, 0);
        return values;
    }

    private static double moved(Device device, Tensor t, double[] at, int i, double by, Transformer model) {
        double[] values = at.clone();
        values[i] += by;
        device.upload(t, values, 0);
        return loss(model);
    }

    private static void assertGradients(Device device, Transformer model, LoraAdapter adapter) {
        adapter.parameters().zeroGradients();
        assertTrue(Double.isFinite(loss(model)));
        double[][] gradients = adapter.parameters().parameters().stream()
                .map(p -> values(device, p.gradient()))
                .toArray(double[][]::new);
        for (int p = 0; p < gradients.length; p++) {
            var parameter = adapter.parameters().parameters().get(p);
            double[] at = values(device, parameter.value());
            double largest = DoubleStream.of(gradients[p]).map(Math::abs).max().orElse(0);
            assertTrue(largest > 1e-6, parameter.name() + " has no gradient");
            for (int i = 0; i < at.length; i++) {
                Tensor t = parameter.value();
                // five points: an error of step⁴, so that a step large enough for double's digits will do
                double expected = (8 * (moved(device, t, at, i, STEP, model) - moved(device, t, at, i, -STEP, model))
                                - (moved(device, t, at, i, 2 * STEP, model)
                                        - moved(device, t, at, i, -2 * STEP, model)))
                        / (12 * STEP);
                assertEquals(expected, gradients[p][i], TOLERANCE * largest, parameter.name() + " " + i);
            }
            device.upload(parameter.value(), at, 0);
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "all-linear                | false | false | 0   | {}",
                "all-linear                | false | true  | 0.3 | {\"attention_bias\": true, \"mlp_bias\": true}",
                "all-linear                | true  | false | 0.3 | {\"tie_word_embeddings\": true}",
                "q_proj k_proj             | false | false | 0   | {\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.0}}",
                "v_proj o_proj             | false | true  | 0   | {\"num_key_value_heads\": 1, \"head_dim\": 4}",
                "gate_proj up_proj         | false | false | 0.5 | {}",
                "down_proj                 | true  | true  | 0   | {}",
            })
    void everyTrainedElement(String targets, boolean nf4, boolean checkpointing, double dropout, String config)
            throws IOException {
        check(targets, nf4, checkpointing, dropout, config);
    }

    /** Experts, dense layers among them, routers trained and frozen: their gradient reaches the layers below anyway. */
    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "all-linear               | false | true  | 0.3 | false | [1]",
                "all-linear               | true  | false | 0   | true  | []",
                "q_proj gate_proj up_proj | false | false | 0   | true  | []",
                "v_proj down_proj         | false | true  | 0   | false | [0]",
                "gate                     | false | false | 0   | true  | []",
            })
    void everyTrainedElementOfAMixture(
            String targets, boolean nf4, boolean checkpointing, double dropout, boolean normalize, String dense)
            throws IOException {
        check(targets, nf4, checkpointing, dropout, MOE.formatted(normalize, dense));
    }

    private void check(String targets, boolean nf4, boolean checkpointing, double dropout, String config)
            throws IOException {
        try (Device device = Devices.open("reference", 1);
                Transformer model = load(model(config), device, nf4);
                LoraAdapter adapter = LoraAdapter.attach(
                        model,
                        LoraConfig.builder(2, 3)
                                .loraDropout(dropout)
                                .targetModules(
                                        targets.equals("all-linear")
                                                ? new ModuleSelector.AllLinear()
                                                : new ModuleSelector.Names(Set.of(targets.split(" "))))
                                .build(),
                        SEED)) {
            model.setGradientCheckpointing(checkpointing);
            randomize(device, adapter);
            assertGradients(device, model, adapter);
        }
    }

    @ParameterizedTest
    @CsvSource({"q_proj, false", "up_proj, true"})
    void aTrainedOutputLayer(String targets, boolean checkpointing) throws IOException {
        try (Device device = Devices.open("reference", 1);
                Transformer model = load(model("{}"), device, false);
                LoraAdapter adapter = LoraAdapter.attach(
                        model,
                        LoraConfig.builder(2, 3)
                                .targetModules(new ModuleSelector.Names(Set.of(targets)))
                                .layersToTransform(List.of(1))
                                .modulesToSave(Set.of("lm_head"))
                                .build(),
                        SEED)) {
            model.setGradientCheckpointing(checkpointing);
            randomize(device, adapter);
            assertGradients(device, model, adapter);
        }
    }

    @Test
    void aLaterTokenChangesNoEarlierLogit() throws IOException {
        try (Device device = Devices.open("reference", 1);
                Transformer model = load(model("{}"), device, false)) {
            float[] before = model.logits(new int[] {1, 2, 3, 4});
            float[] after = model.logits(new int[] {1, 2, 3, 9});
            int earlier = 3 * VOCAB;
            assertArrayEquals(Arrays.copyOf(before, earlier), Arrays.copyOf(after, earlier), "causal");
        }
    }
}
