package org.qlora4j.samples;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.samples.fuzz.Fuzzing;
import picocli.CommandLine.ParseResult;

/** YAML and JSON files of options. */
class OptionFileFuzz {
    private static final Path FILE = Fuzzing.folder().resolve("options.yaml");

    private static final ParseResult LINE = CommandLines.parse(CommandLines.of(Command.SFT), List.of(FILE.toString()));

    static Stream<org.junit.jupiter.params.provider.Arguments> seeds() {
        return Fuzzing.seeds(
                "model: m\ndataset:\n  - a.jsonl#5\n  - b.jsonl\nlearning_rate: 1e-4\nlora_rank: 8\nseed: 0x1F\n"
                        + "packing: true\nlr_scheduler_kwargs: {num_cycles: 2}\n",
                "{\"model\": \"m\", \"rank_pattern\": {\"q_proj\": 4}, \"adapters\": null}",
                "a: &a [x, x]\nb: &b [*a, *a]\nc: !!set {x}\n? [k]\n: !!binary aGk=\n--- |\n text\n");
    }

    @MethodSource("seeds")
    @FuzzTest
    void yaml(byte[] input) {
        Fuzzing.hold(() -> {
            Files.write(FILE, input);
            Arguments.of(Command.SFT, LINE).toJson();
        });
    }
}
