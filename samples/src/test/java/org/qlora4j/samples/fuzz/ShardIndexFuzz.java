package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.nf4.file.Safetensors;

/** model.safetensors.index.json, beside a shard and in front of a file it must not reach. */
class ShardIndexFuzz {
    private static final Path FOLDER = Fuzzing.folder();
    private static final Path INDEX = FOLDER.resolve("m/model.safetensors.index.json");

    @BeforeAll
    static void shards() throws IOException {
        byte[] header =
                "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}".getBytes(StandardCharsets.UTF_8);
        Files.createDirectories(INDEX.getParent());
        for (String name : new String[] {"m/a.safetensors", "m/b.safetensors", "x.safetensors"}) {
            Files.write(FOLDER.resolve(name), Fuzzing.safetensors(header, new byte[1]));
        }
    }

    static Stream<Arguments> seeds() {
        return Fuzzing.seeds(
                "{\"metadata\":{\"total_size\":2},\"weight_map\":{\"w\":\"a.safetensors\"}}",
                "{\"weight_map\":{\"w\":\"../x.safetensors\"}}",
                "{\"weight_map\":{\"w\":\"/m/../x.safetensors\",\"v\":\"b.safetensors\"}}");
    }

    @MethodSource("seeds")
    @FuzzTest
    void index(byte[] input) {
        Fuzzing.hold(() -> {
            Files.write(INDEX, input);
            try (Safetensors tensors = Safetensors.open(INDEX.getParent())) {
                for (String name : tensors.names()) {
                    Path file = tensors.get(name).file();
                    if (!file.toRealPath().startsWith(FOLDER.resolve("m").toRealPath())) {
                        throw new AssertionError("the index leads out of its folder to " + file);
                    }
                }
                SafetensorsFuzz.readAll(tensors);
            }
        });
    }
}
