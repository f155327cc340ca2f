package org.qlora4j.lora.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.hub.Hub;

class DatasetSpecTest {
    @TempDir
    Path folder;

    @ParameterizedTest
    @CsvSource({
        "AI-ModelScope/alpaca-gpt4-data-zh#500, , AI-ModelScope/alpaca-gpt4-data-zh, '', 500",
        "hf::a/b:x/y#7, HUGGING_FACE, a/b, 'x y', 7",
        "ms::a/b:all, MODELSCOPE, a/b, '', -1",
        "a/b:sub, , a/b, sub, -1",
        "alpaca-zh, , alpaca-zh, '', -1"
    })
    void readsTheGrammar(String text, Hub hub, String name, String subsets, int count) {
        List<String> parts = subsets.isEmpty() ? List.of() : List.of(subsets.split(" "));
        assertEquals(new DatasetSpec(name, hub, parts, count), DatasetSpec.parse(text));
    }

    @Test
    void aPathThatExistsWins() throws IOException {
        Path odd = Files.createFile(folder.resolve("a::b:c#5"));
        assertEquals(new DatasetSpec(odd.toString(), null, List.of(), -1), DatasetSpec.parse(odd.toString()));
        assertEquals(new DatasetSpec(odd.toString(), null, List.of(), 9), DatasetSpec.parse(odd + "#9"));
        Path colon = Files.createDirectory(folder.resolve("x:y"));
        assertEquals(new DatasetSpec(colon.toString(), null, List.of(), 3), DatasetSpec.parse(colon + "#3"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"a/b#", "a/b#x", "a/b#0", "a/b#-3", "a/b#99999999999"})
    void countsMustBePositive(String text) {
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> DatasetSpec.parse(text));
        assertTrue(e.getMessage().contains(text), e.getMessage());
    }

    @Test
    void choosesTrainFilesOfOneFormat() {
        List<String> names = List.of(
                "README.md",
                ".gitattributes",
                "load.py",
                "dataset_infos.json",
                "en/train-00000.parquet",
                "en/train-00001.parquet",
                "en/test-00000.parquet",
                "zh/train-00000.parquet",
                "extra.jsonl");
        assertEquals(
                List.of("en/train-00000.parquet", "en/train-00001.parquet", "zh/train-00000.parquet"),
                DataFileNames.choose("a/b", names, List.of()));
        assertEquals(List.of("zh/train-00000.parquet"), DataFileNames.choose("a/b", names, List.of("zh")));
        assertEquals(
                List.of("a.jsonl"), DataFileNames.choose("a/b", List.of("a.jsonl", "a.csv", "dev.jsonl"), List.of()));
        assertEquals(List.of("test.csv"), DataFileNames.choose("a/b", List.of("test.csv"), List.of()));
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> DataFileNames.choose("a/b", names, List.of("fr")));
        assertTrue(e.getMessage().contains("no subset 'fr'") && e.getMessage().contains("zh/train"), e.getMessage());
        assertThrows(IllegalArgumentException.class, () -> DataFileNames.choose("a/b", List.of("load.py"), List.of()));
    }
}
