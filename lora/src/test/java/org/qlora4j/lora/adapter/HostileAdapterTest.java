package org.qlora4j.lora.adapter;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.NamePattern;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.tensor.DType;

/** Small adapters that would take a time or a memory without end. */
class HostileAdapterTest {
    private static final Path GOLDEN = Path.of(System.getProperty("qlora4j.golden"), "models/llama_4bit_tiny");
    private static final String MODULE = "model.layers.0.self_attn.q_proj";

    @ParameterizedTest
    @ValueSource(strings = {"(.*)*(.*)*(.*)*!", "((([a-z._]|[0-9])+)+)+!"})
    void expressionsThatNeverEnd(String expression) {
        String longer = MODULE.repeat(3);
        IllegalArgumentException e = assertTimeoutPreemptively(
                Duration.ofSeconds(20),
                () -> assertThrows(
                        IllegalArgumentException.class, () -> new ModuleSelector.Regex(expression).selects(longer)));
        assertTrue(e.getMessage().contains("takes too long or is nested too deeply; simplify it"), e.getMessage());
        assertThrows(IllegalArgumentException.class, () -> ModuleSelector.firstMatch(Map.of(expression, 1), longer));
    }

    @Test
    void deepAndLongExpressions() {
        for (String expression : new String[] {"(".repeat(20_000) + ")".repeat(20_000), "a".repeat(200_000)}) {
            assertThrows(IllegalArgumentException.class, () -> NamePattern.of(expression));
        }
    }

    @Test
    void usualExpressions() {
        String peft = "(?:model\\.)?layers\\.[0-9]+\\.(self_attn|mlp)\\.(?:q_proj|k_proj|down_proj)";
        assertTrue(NamePattern.of(peft).matches(MODULE));
        assertFalse(NamePattern.of(peft).matches(MODULE + "x"));
        assertEquals("0", NamePattern.of(".*layers\\.(\\d+)\\..*").match(MODULE).group(1));
    }

    @Test
    void aRankThatTheWeightsDoNotHave(@TempDir Path folder) throws IOException {
        Files.copy(
                GOLDEN.resolve("adapter_init/adapter_model.safetensors"), folder.resolve("adapter_model.safetensors"));
        String config = Files.readString(GOLDEN.resolve("adapter_init/adapter_config.json"));
        Files.writeString(folder.resolve("adapter_config.json"), config.replace("\"r\": 2,", "\"r\": 65536,"));
        try (ModelSource source = ModelSource.open(GOLDEN.resolve("base"));
                Device device = Devices.open("reference", 1);
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {})) {
            ModelFormatException e = assertThrows(
                    ModelFormatException.class,
                    () -> AdapterFiles.load(model, AdapterFiles.readConfig(folder), folder));
            assertTrue(e.getMessage().contains("asks for rank 65536"), e.getMessage());
            assertTrue(e.getMessage().contains("have rank 2 at most"), e.getMessage());
        }
    }

    @Test
    void aRefusedAdapterTakesNoMemory() throws IOException {
        try (ModelSource source = ModelSource.open(GOLDEN.resolve("base"));
                Device device = Devices.open("reference", 1);
                Transformer model = ModelLoader.load(
                        source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {})) {
            LoraConfig unreadable =
                    LoraConfig.builder(2, 4).alphaPattern(Map.of("q_)roj", 1.0)).build();
            assertThrows(IllegalArgumentException.class, () -> LoraAdapter.attach(model, unreadable, 1));
            long before = device.bytesHeld();
            for (int i = 0; i < 3; i++) {
                assertThrows(IllegalArgumentException.class, () -> LoraAdapter.attach(model, unreadable, 1));
            }
            assertEquals(before, device.bytesHeld());
        }
    }
}
