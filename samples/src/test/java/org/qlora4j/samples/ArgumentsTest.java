package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class ArgumentsTest {
    private static final String JOURNEY = Path.of(System.getProperty("qlora4j.root"), "samples/configs/qwen3-14b.yaml")
            .toString();

    @Test
    void readsTheJourneysArguments() {
        Arguments a = Arguments.parse(List.of(JOURNEY), Sft.OPTIONS);
        assertEquals("Qwen/Qwen3-14B", a.text("model", ""));
        assertEquals(List.of("alpaca-zh#500", "alpaca-en#500", "self-cognition#500"), a.list("dataset"));
        assertEquals(1e-4, a.number("learning_rate", 0));
        assertEquals(16, a.integer("gradient_accumulation_steps", 0));
        assertTrue(a.bool("bnb_4bit_use_double_quant", false));
    }

    @Test
    void flagsOverrideTheFileAndOldNamesAreTaken() {
        Arguments a = Arguments.parse(
                List.of(
                        JOURNEY,
                        "--train_type",
                        "lora",
                        "--learning_rate=2e-4",
                        "--dataset",
                        "a",
                        "b",
                        "--ckpt_dir",
                        "x"),
                Sft.OPTIONS);
        assertEquals("lora", a.text("tuner_type", ""));
        assertEquals(2e-4, a.number("learning_rate", 0));
        assertEquals(List.of("a", "b"), a.list("dataset"));
        assertEquals("x", a.text("adapters", ""));
    }

    @Test
    void namesThatDoNotExistAreRefused() {
        UserException e =
                assertThrows(UserException.class, () -> Arguments.parse(List.of("--lora_rnak", "8"), Sft.OPTIONS));
        assertTrue(
                String.valueOf(e.getMessage()).startsWith("there is no option --lora_rnak; there are: "),
                e.getMessage());
        assertThrows(
                UserException.class,
                () -> Arguments.parse(List.of("--lora_rank", "eight"), Sft.OPTIONS)
                        .integer("lora_rank", 8));
    }
}
