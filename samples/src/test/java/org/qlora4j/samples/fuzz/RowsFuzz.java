package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.data.BrokenRows;
import org.qlora4j.lora.data.DatasetFiles;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.data.ExampleEncoder;
import org.qlora4j.lora.data.LossScale;
import org.qlora4j.lora.data.Names;
import org.qlora4j.lora.hub.Hub;
import org.qlora4j.lora.hub.HubClient;
import org.qlora4j.lora.hub.HubProgress;
import org.qlora4j.lora.hub.HubSettings;
import org.qlora4j.lora.text.ChatTemplate;
import org.qlora4j.lora.text.ChatText;

/**
 * Data files, read, understood and tokenized; the first byte is the format. Parquet is the hardwood library's:
 * ParquetRows waits for it no longer than for a batch.
 */
class RowsFuzz {
    private static final String[] FORMATS = {"jsonl", "json", "csv", "tsv", "txt"};
    private static final String TEMPLATE = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}";
    private static final Path FOLDER = Fuzzing.folder();
    private static ExampleEncoder encoder;

    @BeforeAll
    @SuppressWarnings("MustBeClosedChecker") // for as long as the process lives
    static void tokenizer() throws IOException {
        Files.copy(Fuzzing.golden("tokenizer/tiny_bytelevel_split/tokenizer.json"), FOLDER.resolve("tokenizer.json"));
        ChatText text = ChatText.load(FOLDER);
        encoder = new ExampleEncoder(text, new ChatTemplate(TEMPLATE, "", ""), null, LossScale.DEFAULT, 640);
    }

    static Stream<Arguments> seeds() {
        List<byte[]> seeds = new ArrayList<>();
        for (String seed : List.of(
                "\0{\"query\":\"a\",\"response\":\"b\",\"history\":[[\"c\",\"d\"]],\"system\":\"e\"}\n"
                        + "{\"instruction\":\"a {{NAME}}\",\"input\":\"\",\"output\":\"b\"}\n{\"text\":\"c\"}\n",
                "\0{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\","
                        + "\"loss\":true,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}],"
                        + "\"tools\":\"[{}]\"}\n{\"input_ids\":[1,2],\"labels\":[-100,2]}",
                "\1[{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}]}]",
                "\2query,response\n\"a \"\"b\"\"\",c\n",
                "\3text\tother\na\tb\n",
                "\4some\r\nlines\n")) {
            seeds.add(seed.getBytes(StandardCharsets.UTF_8));
        }
        return Fuzzing.seeds(seeds.toArray(byte[][]::new));
    }

    @MethodSource("seeds")
    @FuzzTest
    void rows(byte[] input) {
        Path file = FOLDER.resolve("rows." + FORMATS[Fuzzing.choice(input, FORMATS.length)]);
        Fuzzing.hold(() -> {
            Files.write(file, Fuzzing.rest(input));
            HubClient hub = new HubClient(
                    new HubSettings(Map.of("HF_HUB_OFFLINE", "1"), FOLDER), Hub.MODELSCOPE, new NoProgress());
            Names names = new Names("n", "m");
            new DatasetReader(
                            new DatasetFiles(FOLDER, hub, line -> {}),
                            encoder,
                            Map.of("problem_text", "query"),
                            names,
                            null,
                            new BrokenRows(false),
                            null)
                    .read(DatasetSpec.of(file), true, 1, 0.5);
        });
    }

    private record NoProgress() implements HubProgress {
        @Override
        public void say(String line) {}

        @Override
        public void bytes(String what, long done, long all) {}
    }
}
