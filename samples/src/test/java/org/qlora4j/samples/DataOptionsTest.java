package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What {@code sft} says about its data before it trains. */
class DataOptionsTest {
    @TempDir
    Path folder;

    private Cli.Output sft(String... more) throws IOException {
        Path model = folder.resolve("model");
        if (!Files.exists(model)) {
            TinyModel.write(model);
        }
        List<String> words = new ArrayList<>(List.of(
                "sft",
                "--model",
                model.toString(),
                "--dataset",
                "alpaca-en#60",
                "--max_steps",
                "2",
                "--output_dir",
                folder.resolve("out").toString()));
        words.addAll(List.of(more));
        return Cli.qlora(words.toArray(String[]::new));
    }

    @Test
    void packsRowsAndShowsOneWithItsMask() throws IOException {
        Cli.Output output = sft("--packing", "true", "--max_length", "512", "--group_by_length", "true");
        assertEquals(0, output.exit(), output.err());
        Matcher packed = Pattern.compile("packed into (\\d+) places").matcher(output.out());
        assertTrue(packed.find(), output.out());
        assertTrue(Integer.parseInt(packed.group(1)) < 30, output.out());
        assertTrue(
                Pattern.compile("Dataset Token Length: [0-9.]+±[0-9.]+, min=\\d+, max=\\d+, size=60; 50 %: \\d+")
                        .matcher(output.out())
                        .find(),
                output.out());
        assertTrue(
                Pattern.compile("\\[LABELS] \\[-100 \\* \\d+][^\\n]+</s>\\[-100 \\* 1]")
                        .matcher(output.out())
                        .find(),
                output.out());
    }

    @Test
    void optionsThatContradictEachOther() throws IOException {
        assertTrue(sft("--packing_length", "512").err().contains("no effect without --packing true"));
        assertTrue(sft("--packing", "true", "--packing_length", "8").err().contains("at least max_length"));
        assertTrue(sft("--interleave_prob", "0.5").err().contains("must add up to 1"));
        assertTrue(sft("--columns", "{\"a\": \"b\"}").err().contains("'a' cannot be read as 'b'"));
    }
}
