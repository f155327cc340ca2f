package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;

/** Weights: the first byte says how many zeros follow the header (255: the rest is the whole file). */
class SafetensorsFuzz {
    private static final Path FILE = Fuzzing.folder().resolve("model.safetensors");

    static Stream<Arguments> seeds() {
        return Fuzzing.seeds(
                "\030{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                        + "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[16,24]}}",
                "\011{\"c\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[8,9]},"
                        + "\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}",
                "\0{\"e\":{\"dtype\":\"F16\",\"shape\":[0,9223372036854775807],\"data_offsets\":[0,0]}}");
    }

    @MethodSource("seeds")
    @FuzzTest
    void header(byte[] input) {
        int zeros = Fuzzing.choice(input, 256);
        byte[] rest = Fuzzing.rest(input);
        byte[] file = zeros == 255 ? rest : Fuzzing.safetensors(rest, new byte[zeros]);
        Fuzzing.hold(() -> {
            Files.write(FILE, file);
            try (Safetensors tensors = Safetensors.open(FILE)) {
                readAll(tensors);
            }
        });
    }

    static void readAll(TensorFiles tensors) {
        for (String name : tensors.names()) {
            StoredTensor t = tensors.get(name);
            tensors.readBytes(t);
            if (t.type().readsAsFloats()) {
                int count = Math.toIntExact(t.elements());
                tensors.readFloats(t, 0, count, new float[count], 0);
            }
        }
    }
}
