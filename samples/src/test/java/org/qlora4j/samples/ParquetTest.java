package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.lora.data.BrokenRows;
import org.qlora4j.lora.data.DatasetFiles;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.data.ExampleEncoder;
import org.qlora4j.lora.data.LossScale;
import org.qlora4j.lora.hub.HubClient;
import org.qlora4j.lora.text.ChatTemplate;
import org.qlora4j.lora.text.ChatText;

/**
 * Files written by pyarrow: three rows with int64 id, instruction, input, output, score, ok and messages (a list of
 * structs), some of them null.
 */
class ParquetTest {
    private static final String TEMPLATE = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}";

    private static final HubClient HUB = Hubs.of(Arguments.parse(Command.EVAL, List.of("--use_hf", "true")));

    @TempDir
    Path folder;

    private List<String> rows(Path file, Map<String, String> columns, BrokenRows broken) throws IOException {
        Files.copy(
                Path.of(System.getProperty("qlora4j.golden"), "tokenizer/tiny_bytelevel_split/tokenizer.json"),
                folder.resolve("tokenizer.json"));
        try (ChatText text = ChatText.load(folder)) {
            ExampleEncoder encoder =
                    new ExampleEncoder(text, new ChatTemplate(TEMPLATE, "", ""), null, LossScale.DEFAULT, 640);
            DatasetReader reader = new DatasetReader(
                    new DatasetFiles(folder, HUB, line -> {}), encoder, columns, null, null, broken, null);
            return reader.read(DatasetSpec.of(file), false, 0, 0).train().stream()
                    .map(row -> text.tokenizer().decode(row.ids()))
                    .toList();
        }
    }

    private static Path file(String name) throws URISyntaxException {
        return Path.of(ParquetTest.class.getResource(name).toURI());
    }

    @ParameterizedTest
    @ValueSource(strings = {"none", "snappy", "gzip"})
    void readsNestedRows(String codec) throws Exception {
        assertEquals(
                List.of("[user]你好 0[assistant]Hello 0", "[user]你好 1[assistant]Hello 1", "[user]你好 2[assistant]Hello 2"),
                rows(file("rows_" + codec + ".parquet"), Map.of(), new BrokenRows(true)));
    }

    @Test
    void readsColumnsThatMayBeNull() throws Exception {
        assertEquals(
                List.of("[user]a[assistant]A", "[user]b[assistant]B", "[user]c\nx[assistant]C"),
                rows(file("rows_snappy.parquet"), Map.of("messages", "tag"), new BrokenRows(true)));
    }

    @Test
    void aCodecThatIsNotThereIsNamed() throws Exception {
        BrokenRows broken = new BrokenRows(false);
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> rows(file("rows_zstd.parquet"), Map.of(), broken));
        assertTrue(e.getMessage().contains("rows_zstd.parquet row 1: cannot be read"), e.getMessage());
        assertTrue(e.getMessage().contains("zstd-jni"), e.getMessage());
        assertEquals(1, broken.count());
    }

    @Test
    void damagedFilesAreBrokenRows() throws Exception {
        byte[] bytes = Files.readAllBytes(file("rows_gzip.parquet"));
        for (int cut : new int[] {0, 3, 100, bytes.length - 5}) {
            Path damaged = folder.resolve("cut" + cut + ".parquet");
            Files.write(damaged, Arrays.copyOf(bytes, cut));
            Files.deleteIfExists(folder.resolve("tokenizer.json"));
            String message = message(damaged);
            assertTrue(message.contains("cut" + cut + ".parquet"), message);
        }
    }

    private String message(Path file) throws IOException {
        try {
            return rows(file, Map.of(), new BrokenRows(true)).toString();
        } catch (IllegalArgumentException | UncheckedIOException e) {
            return String.valueOf(e.getMessage());
        }
    }
}
