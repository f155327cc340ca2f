package org.qlora4j.optim;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.adapter.ModuleSelector;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.SafetensorsWriter;
import org.qlora4j.nf4.file.TensorSpec;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/** State, groups and files of optimizers, on the adapter of a tiny model. */
class OptimizerTest {
    private static final OptimizerNames.Constants CONSTANTS = new OptimizerNames.Constants(0.9, 0.99, 1e-8, 0.1);

    private static Device device;
    private static Transformer model;
    private LoraAdapter adapter;

    @TempDir
    Path folder;

    @BeforeAll
    static void open() {
        device = TinyModel.openDevice();
        model = TinyModel.load(device);
    }

    @AfterAll
    static void close() {
        model.close();
        device.close();
    }

    @BeforeEach
    void attach() {
        adapter = LoraAdapter.attach(model, LoraConfig.allLinear(8, 16), 3);
    }

    @AfterEach
    void detach() {
        adapter.close();
    }

    private Optimizer optimizer(String name) {
        return new Optimizer(
                device, adapter.parameters(), OptimizerNames.config(name, CONSTANTS, ""), folder.resolve("pages"));
    }

    private float[] values() {
        return floats(adapter.parameters().values());
    }

    private static float[] floats(Tensor t) {
        float[] values = new float[(int) t.numel()];
        device.download(t, values, 0);
        return values;
    }

    private void gradients(double phase) {
        float[] g = new float[adapter.parameters().gradients().cols()];
        for (int i = 0; i < g.length; i++) {
            g[i] = (float) Math.sin(phase + 0.37 * i) * (1 + i % 3);
        }
        device.upload(adapter.parameters().gradients(), g, 0);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_lion_8bit", "sgd", "ademamix_8bit"})
    void savedAndLoadedStateGoesOnAsIfItHadStayed(String name) {
        float[] start = values();
        float[] whole;
        try (Optimizer optimizer = optimizer(name)) {
            for (int s = 0; s < 4; s++) {
                gradients(s);
                optimizer.step(1e-2);
                if (s == 1) {
                    optimizer.save(folder.resolve("state"));
                    start = values();
                }
            }
            whole = values();
        }
        device.upload(adapter.parameters().values(), start, 0);
        try (Optimizer optimizer = optimizer(name)) {
            optimizer.load(folder.resolve("state"));
            assertEquals(2, optimizer.steps());
            for (int s = 2; s < 4; s++) {
                gradients(s);
                optimizer.step(1e-2);
            }
        }
        assertArrayEquals(whole, values());
    }

    /** Paging moves bytes, it does not change them; no file stays visible. */
    @ParameterizedTest
    @ValueSource(strings = {"adamw_32bit", "adamw_8bit", "lion_8bit", "ademamix_32bit"})
    void pagedStateGivesTheSameBits(String name) throws IOException {
        adapter.close();
        adapter = LoraAdapter.attach(model, LoraConfig.allLinear(64, 16), 3);
        int n = adapter.parameters().values().cols();
        assertTrue(n >= Optimizer.MIN_PAGED_SIZE, n + " parameters");
        float[] start = values();
        String plain = name.equals("adamw_32bit") ? "paged_adamw_32bit" : name.replace("_32bit", "");
        OptimizerConfig paged = OptimizerNames.config("paged_" + name, CONSTANTS, "");
        OptimizerConfig unpaged = new OptimizerConfig(
                paged.rule(),
                new OptimizerConfig.Layout(
                        paged.layout().eightBit(), false, paged.layout().rounding()),
                0,
                1);
        assertEquals(paged.rule(), OptimizerNames.config(plain, CONSTANTS, "").rule());
        float[] expected = null;
        for (OptimizerConfig config : List.of(unpaged, paged)) {
            device.upload(adapter.parameters().values(), start, 0);
            try (Optimizer optimizer = new Optimizer(device, adapter.parameters(), config, folder.resolve("pages"))) {
                for (int s = 0; s < 3; s++) {
                    gradients(s);
                    optimizer.step(1e-2);
                }
                assertEquals(
                        config == paged,
                        optimizer.parts().get("state1").memory().isPaged());
                float[] got = values();
                if (expected != null) {
                    assertArrayEquals(expected, got);
                }
                expected = got;
            }
        }
        try (var files = Files.list(folder.resolve("pages"))) {
            assertEquals(0, files.count());
        }
    }

    @Test
    void aPagedOptimizerNeedsAFolder() {
        assertThrows(
                IllegalArgumentException.class,
                () -> new Optimizer(
                        device, adapter.parameters(), OptimizerNames.config("paged_adamw_8bit", CONSTANTS, "")));
    }

    /** SGD without momentum shows the rates: the change is rate · gradient. */
    @Test
    void loraPlusMovesBFaster() {
        OptimizerNames.Constants noDecay = new OptimizerNames.Constants(0, 0, 0, 0);
        OptimizerConfig config = OptimizerNames.config("sgd", noDecay, "").withLoraPlusLrRatio(16);
        device.ops().fill(adapter.parameters().values(), 0);
        device.ops().fill(adapter.parameters().gradients(), 1);
        try (Optimizer optimizer = new Optimizer(device, adapter.parameters(), config)) {
            optimizer.step(0.25);
        }
        for (Parameter p : adapter.parameters().parameters()) {
            float expected = p.name().contains("lora_B") ? -4 : -0.25f;
            for (float value : floats(p.value())) {
                assertEquals(expected, value, p.name());
            }
        }
    }

    @Test
    void withEqualRatesAllParametersAreOneRange() {
        assertEquals(
                List.of(new ParameterGroups.Group(
                        0, adapter.parameters().values().cols(), 1)),
                ParameterGroups.of(adapter.parameters(), 1));
    }

    @Test
    void gradientsAreClippedToTheirJointNorm() {
        OptimizerNames.Constants noDecay = new OptimizerNames.Constants(0, 0, 0, 0);
        OptimizerConfig config = OptimizerNames.config("sgd", noDecay, "").withMaxGradNorm(2);
        device.ops().fill(adapter.parameters().values(), 0);
        gradients(0);
        try (Optimizer optimizer = new Optimizer(device, adapter.parameters(), config)) {
            double norm = optimizer.step(1);
            assertEquals(
                    2, Math.sqrt(device.ops().sumOfSquares(adapter.parameters().values())), 1e-5);
            device.ops().fill(adapter.parameters().values(), 0);
            device.ops().fill(adapter.parameters().gradients(), 0);
            assertTrue(norm > 2);
            assertEquals(0, optimizer.step(1));
        }
    }

    @Test
    void aNormThatIsNotFiniteChangesNothing() {
        gradients(0);
        device.upload(adapter.parameters().gradients().cols(7, 1), new float[] {Float.NaN}, 0);
        float[] before = values();
        try (Optimizer optimizer = optimizer("adamw_8bit")) {
            assertThrows(ArithmeticException.class, () -> optimizer.step(1));
            assertEquals(0, optimizer.steps());
        }
        assertArrayEquals(before, values());
    }

    @Test
    void eightBitStateTakesAQuarterAndSmallStateStaysFull() {
        int n = adapter.parameters().values().cols();
        try (Optimizer full = optimizer("paged_adamw_32bit");
                Optimizer eightBit = optimizer("adamw_8bit")) {
            assertEquals(8L * n, full.stateBytes());
            assertEquals(2L * n + 8L * n / 256, eightBit.stateBytes());
        }
        adapter.close();
        adapter = LoraAdapter.attach(
                model,
                LoraConfig.builder(1, 1)
                        .targetModules(new ModuleSelector.Names(Set.of("q_proj")))
                        .build(),
                1);
        assertTrue(adapter.parameters().values().cols() < Optimizer.MIN_8BIT_SIZE);
        try (Optimizer small = optimizer("adamw_8bit")) {
            assertEquals(DType.F32, small.parts().get("state1").dtype());
        }
    }

    @Test
    void stateOfAnotherOptimizerIsRefused() {
        try (Optimizer adamW = optimizer("adamw_8bit");
                Optimizer lion = optimizer("lion_8bit")) {
            adamW.save(folder.resolve("state"));
            refused("AdamW 8-bit NEAREST", () -> lion.load(folder.resolve("state")));
        }
    }

    private void write(Map<String, String> metadata, int cols, float value) {
        List<TensorSpec> specs =
                List.of(TensorSpec.of("state1", DType.F32, 1, cols), TensorSpec.of("state2", DType.F32, 1, cols));
        SafetensorsWriter.write(folder.resolve("state"), metadata, specs, (spec, sink) -> {
            ByteBuffer bytes = ByteBuffer.allocate(4 * cols).order(ByteOrder.LITTLE_ENDIAN);
            bytes.putFloat(4 * (cols - 1), value);
            sink.write(bytes);
        });
    }

    private static void refused(String part, org.junit.jupiter.api.function.Executable load) {
        String message = assertThrows(ModelFormatException.class, load).getMessage();
        assertTrue(message.contains(part), message);
    }

    @Test
    void aDamagedStateFileIsRefusedBeforeItIsUsed() throws IOException {
        int n = adapter.parameters().values().cols();
        Path file = folder.resolve("state");
        try (Optimizer optimizer = optimizer("adamw_torch")) {
            String order = optimizer.order();
            Map<String, String> good = Map.of("optimizer", "AdamW F32", "parameters", order, "steps", "7");
            write(good, n, 0.5f);
            optimizer.load(file);
            assertEquals(7, optimizer.steps());
            write(Map.of("optimizer", "AdamW F32", "steps", "7"), n, 0.5f);
            refused("in another order", () -> optimizer.load(file));
            write(good, n, Float.NaN);
            refused("holds NaN", () -> optimizer.load(file));
            write(good, n, -1);
            refused("'state2' holds -1", () -> optimizer.load(file));
            write(good, n - 1, 0);
            refused("another LoRA configuration", () -> optimizer.load(file));
            write(Map.of("optimizer", "AdamW F32", "parameters", order, "steps", "-1"), n, 0);
            refused("'steps' must be a number", () -> optimizer.load(file));
            write(Map.of(), n, 0);
            refused("optimizer 'null'", () -> optimizer.load(file));
            write(good, n, 0);
            byte[] all = Files.readAllBytes(file);
            for (int length : new int[] {0, 7, 8, 100, all.length / 2, all.length - 1}) {
                Files.write(file, java.util.Arrays.copyOf(all, length));
                assertThrows(ModelFormatException.class, () -> optimizer.load(file), length + " bytes");
            }
        }
    }
}
