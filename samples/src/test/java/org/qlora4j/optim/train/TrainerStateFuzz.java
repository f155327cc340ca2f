package org.qlora4j.optim.train;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.samples.fuzz.Fuzzing;

/** trainer_state.json of a checkpoint; what was read is written again, as the next checkpoint does. */
class TrainerStateFuzz {
    private static final Path FILE = Fuzzing.folder().resolve(TrainerCheckpoint.STATE);

    static Stream<Arguments> seeds() {
        return Fuzzing.seeds(
                "{\"global_step\":2,\"best_metric\":1.5,\"best_global_step\":2,\"checkpoints_since_best\":0,"
                        + "\"skipped_steps\":1,\"log_sums\":{\"steps\":1,\"loss\":2.5,\"labels\":7,\"correct\":3},"
                        + "\"data_order\":{\"rows\":\"9\"},\"log_history\":[{\"loss\":2.25,\"elapsed\":\"1s\",\"step\":1}]}",
                "{\"global_step\":0,\"best_metric\":null,\"best_global_step\":null,\"checkpoints_since_best\":0,"
                        + "\"skipped_steps\":0,\"log_sums\":{\"steps\":0},\"log_history\":[]}");
    }

    @MethodSource("seeds")
    @FuzzTest
    void state(byte[] input) {
        Fuzzing.hold(() -> {
            Files.write(FILE, input);
            TrainerState.read(FILE).toJson().toPrettyString();
        });
    }
}
