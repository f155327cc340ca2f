package consumer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.optim.train.Trainer;

class ConsumerTest {
    @TempDir
    Path output;

    @Test
    void trainsAndGenerates() {
        assertEquals(
                Boolean.getBoolean("consumer.modulePath"), Trainer.class.getModule().isNamed());
        Consumer.Taught taught = Consumer.teach(output);
        assertEquals("I am Xiaoyu.", taught.answer());
        assertEquals(12, taught.result().steps());
        assertEquals(output.resolve("checkpoint-12"), taught.result().lastCheckpoint());
        assertTrue(Files.isRegularFile(
                taught.result().bestCheckpoint().resolve("adapter_model.safetensors")));
        assertTrue(taught.result().bestMetric() < 1, "loss " + taught.result().bestMetric());
        assertEquals(
                12,
                taught.result().logHistory().stream()
                        .filter(entry -> entry.values().containsKey("grad_norm"))
                        .count());
    }
}
