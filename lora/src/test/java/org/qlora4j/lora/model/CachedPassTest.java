package org.qlora4j.lora.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.DryDevice;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;

/** Long prompts go through the model in blocks. */
class CachedPassTest {
    private static JsonNode family(String name) throws IOException {
        return GoldenCase.JSON.readTree(Path.of(System.getProperty("qlora4j.golden"), "families", name + ".json")
                .toFile());
    }

    private static int[] random(int n, int vocabSize) {
        return new SplittableRandom(n).ints(n, 0, vocabSize).toArray();
    }

    /** Those with dynamic and long rope turn by frequencies of the whole length from the first block on. */
    @ParameterizedTest
    @ValueSource(strings = {"llama", "llama_dynamic", "phi3_longrope", "gemma3"})
    void aPromptInBlocksIsTheSameAsAtOnce(String name) throws IOException {
        try (Device device = Devices.open("cpu", 2);
                ModelSource source = FamiliesGoldenTest.source(family(name));
                Transformer model = FamiliesGoldenTest.load(source, device);
                Scope scope = device.newScope()) {
            int vocabSize = model.config().vocabSize();
            List<int[]> prompts = List.of(random(700, vocabSize), random(3, vocabSize), random(1100, vocabSize));
            List<KvCache> caches =
                    prompts.stream().map(p -> model.newCache(p.length, scope)).toList();
            float[][] found = model.nextLogits(prompts, caches);
            for (int i = 0; i < found.length; i++) {
                float[] whole = model.logits(prompts.get(i));
                float[] last = Arrays.copyOfRange(whole, whole.length - vocabSize, whole.length);
                double apart = GoldenCase.largest(last, found[i]);
                assertTrue(apart < 1e-4, name + ": logits of prompt " + i + " differ by " + apart);
            }
        }
    }

    @Test
    void aLongPromptTakesNoMoreMemoryThanABlock() throws IOException {
        long[] bytes = new long[2];
        for (int i = 0; i < 2; i++) {
            try (DryDevice device = Devices.dryCpu(2, DType.F32);
                    ModelSource source = FamiliesGoldenTest.source(family("llama"));
                    Transformer model = ModelLoader.withoutWeights(
                            source.config(), device, new ModelLoader.Options(DType.F32, null, 1));
                    Scope scope = device.newScope()) {
                int n = i == 0 ? 512 : 8192;
                model.nextLogits(new int[n], model.newCache(n, scope));
                bytes[i] = device.peakBytesByOwner().entrySet().stream()
                        .filter(e ->
                                !e.getKey().equals("KvCache") && !e.getKey().startsWith("Rotary"))
                        .filter(e -> !e.getKey().equals(DryDevice.ATTENTION))
                        .mapToLong(java.util.Map.Entry::getValue)
                        .sum();
            }
        }
        assertEquals(bytes[0], bytes[1]);
    }

    @Test
    void whatDoesNotFitTogetherIsRefusedBeforeACacheChanges() throws IOException {
        try (Device device = Devices.open("reference", 1);
                ModelSource source = FamiliesGoldenTest.source(family("llama"));
                Transformer model = FamiliesGoldenTest.load(source, device);
                Scope scope = device.newScope()) {
            KvCache a = model.newCache(4, scope);
            KvCache b = model.newCache(2, scope);
            refused("tokens of 1 and 2 caches", model, List.of(new int[1]), List.of(a, b));
            refused(
                    "the cache holds 0 of at most 2 tokens; cannot add 3",
                    model,
                    List.of(new int[1], new int[3]),
                    List.of(a, b));
            refused("cannot add 0", model, List.of(new int[1], new int[0]), List.of(a, b));
            refused("sequences 0 and 1 have the same cache", model, List.of(new int[1], new int[1]), List.of(a, a));
            assertEquals(0, a.length());
        }
    }

    private static void refused(String sentence, Transformer model, List<int[]> ids, List<KvCache> caches) {
        String message =
                String.valueOf(assertThrows(IllegalArgumentException.class, () -> model.nextLogits(ids, caches))
                        .getMessage());
        assertTrue(message.contains(sentence), message);
    }
}
