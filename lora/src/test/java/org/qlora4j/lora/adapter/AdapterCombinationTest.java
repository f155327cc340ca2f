package org.qlora4j.lora.adapter;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.lora.adapter.GoldenModel.GOLDEN;
import static org.qlora4j.lora.adapter.GoldenModel.values;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.Safetensors;

/** Several adapters of one model: switched, and combined as PEFT combines them. */
class AdapterCombinationTest {
    private static final GoldenModel LLAMA = GoldenModel.of("llama_tied");
    private static final Path ADAPTERS = GOLDEN.resolve("adapters");

    private static LoraAdapter load(Transformer model, String name) {
        Path folder = ADAPTERS.resolve(name);
        return AdapterFiles.loadDetached(model, AdapterFiles.readConfig(folder), folder);
    }

    private static float[] end(float[] logits, int count) {
        return Arrays.copyOfRange(logits, logits.length - count, logits.length);
    }

    @Test
    void switchesAndCombinesAsPeft(@TempDir Path saved) throws IOException {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        int[] ids = LLAMA.rows().getFirst().ids();
        try (Device device = Devices.open("cpu", 2);
                Transformer model = LLAMA.load(device);
                LoraAdapter a = load(model, "combine_a");
                LoraAdapter b = load(model, "combine_b");
                LoraAdapter dora = load(model, "dora");
                Safetensors golden = Safetensors.open(ADAPTERS.resolve("combined.safetensors"))) {
            float[] base = model.logits(ids);
            for (LoraAdapter adapter : List.of(a, b, a)) {
                adapter.attach();
                String name = adapter == a ? "combine_a" : "combine_b";
                try (Safetensors alone = Safetensors.open(ADAPTERS.resolve(name + "/expected.safetensors"))) {
                    float[] expected = values(alone, "logits");
                    assertArrayEquals(expected, end(model.logits(ids), expected.length), 2e-4f);
                }
                assertThrows(IllegalStateException.class, dora::attach);
                adapter.detach();
            }
            assertArrayEquals(base, model.logits(ids));

            for (AdapterCombination.Type type : AdapterCombination.Type.values()) {
                float[] expected = values(golden, type.name().toLowerCase(java.util.Locale.ROOT));
                Path folder = saved.resolve(type.name());
                try (LoraAdapter both = AdapterCombination.of(List.of(a, b), List.of(0.7, -0.4), type)) {
                    both.attach();
                    assertArrayEquals(expected, end(model.logits(ids), expected.length), 2e-4f, type.name());
                    java.nio.file.Files.createDirectories(folder);
                    AdapterFiles.save(both, "base", folder);
                }
                try (LoraAdapter again = AdapterFiles.load(model, AdapterFiles.readConfig(folder), folder)) {
                    assertArrayEquals(expected, end(model.logits(ids), expected.length), 2e-4f, type.name());
                    assertTrue(again.targets().size() > 0);
                }
            }
            String message = assertThrows(
                            IllegalArgumentException.class,
                            () -> AdapterCombination.of(
                                    List.of(a, dora), List.of(1.0, 1.0), AdapterCombination.Type.CAT))
                    .getMessage();
            assertTrue(message.contains("only plain LoRA"), message);
        }
    }
}
