package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ArgumentsTest {
    private static final String JOURNEY = Path.of(System.getProperty("qlora4j.root"), "samples/configs/qwen3-14b.yaml")
            .toString();

    @TempDir
    Path folder;

    private static Arguments sft(String... words) {
        return Arguments.parse(Command.SFT, List.of(words));
    }

    private static String refused(String... words) {
        return String.valueOf(
                assertThrows(UserException.class, () -> sft(words)).getMessage());
    }

    @Test
    void readsTheJourneysArguments() {
        Arguments a = sft(JOURNEY);
        assertEquals("Qwen/Qwen3-14B", a.text("model"));
        assertEquals("lora", a.text("tuner_type"));
        assertEquals(List.of("alpaca-zh#500", "alpaca-en#500", "self-cognition#500"), a.list("dataset"));
        assertEquals("bnb", a.text("quant_method"));
        assertEquals(4, a.integer("quant_bits"));
        assertEquals("nf4", a.text("bnb_4bit_quant_type"));
        assertTrue(a.bool("bnb_4bit_use_double_quant"));
        assertEquals("bfloat16", a.text("bnb_4bit_compute_dtype"));
        assertEquals("bfloat16", a.text("torch_dtype"));
        assertEquals(1, a.number("num_train_epochs"));
        assertEquals(1, a.integer("per_device_train_batch_size"));
        assertEquals(1, a.integer("per_device_eval_batch_size"));
        assertEquals(1e-4, a.number("learning_rate"));
        assertEquals(8, a.integer("lora_rank"));
        assertEquals(32, a.number("lora_alpha"));
        assertEquals(List.of("all-linear"), a.list("target_modules"));
        assertEquals(16, a.integer("gradient_accumulation_steps"));
        assertEquals(50, a.integer("eval_steps"));
        assertEquals(50, a.integer("save_steps"));
        assertEquals(2, a.integer("save_total_limit"));
        assertEquals(5, a.integer("logging_steps"));
        assertEquals(2048, a.integer("max_length"));
        assertEquals("output", a.text("output_dir"));
        assertEquals("You are a helpful assistant.", a.text("system"));
        assertEquals(0.05, a.number("warmup_ratio"));
        assertEquals(4, a.integer("dataloader_num_workers"));
        assertEquals("swift", a.text("model_author"));
        assertEquals("swift-robot", a.text("model_name"));
    }

    @Test
    void flagsOverrideTheFile() {
        Arguments a = sft(JOURNEY, "--learning_rate=2e-4", "--dataset", "a", "b", "--gradient-accumulation-steps", "2");
        assertEquals(2e-4, a.number("learning_rate"));
        assertEquals(List.of("a", "b"), a.list("dataset"));
        assertEquals(2, a.integer("gradient_accumulation_steps"));
        assertEquals(
                3, sft("--seed", "3", "--add_version", "--config", JOURNEY).integer("seed"), "the file may come last");
    }

    @ParameterizedTest
    @CsvSource({
        "train_type, tuner_type",
        "sft_type, tuner_type",
        "ckpt_dir, adapters",
        "model_id_or_path, model",
        "dtype, torch_dtype",
        "bnb_4bit_comp_dtype, bnb_4bit_compute_dtype",
        "init_lora_weights, init_weights",
        "lora_target_modules, target_modules",
        "lora_target_regex, target_regex",
        "lora_modules_to_save, modules_to_save"
    })
    void namesOfEarlierVersionsAreTaken(String old, String name) {
        assertEquals("x", sft("--" + old, "x").text(name));
    }

    @Test
    void defaultsAreMsSwifts() {
        Arguments a = sft();
        assertEquals(8, a.integer("lora_rank"));
        assertEquals(32, a.number("lora_alpha"));
        assertEquals(0.05, a.number("lora_dropout"));
        assertEquals(List.of("all-linear"), a.list("target_modules"));
        assertEquals("cosine", a.text("lr_scheduler_type"));
        assertEquals(1e-4, a.number("learning_rate"));
        assertEquals(0.9, a.number("adam_beta1"));
        assertEquals(0.95, a.number("adam_beta2"));
        assertEquals(0.1, a.number("weight_decay"));
        assertEquals(42, a.integer("seed"));
        assertEquals(3, a.number("num_train_epochs"));
        assertEquals(500, a.integer("save_steps"));
        assertEquals("nf4", a.text("bnb_4bit_quant_type"));
        assertTrue(a.bool("bnb_4bit_use_double_quant"));
        assertTrue(a.bool("gradient_checkpointing"));
        assertFalse(a.has("quant_method"));
    }

    @Test
    void anAmountIsASwitchOrANumber() {
        for (String value : List.of("true", "false", "auto", "12")) {
            Arguments a = sft("--gradient_checkpointing", value);
            assertEquals(value, a.text("gradient_checkpointing"));
            assertEquals(value, a.toJson().get("gradient_checkpointing").asText());
        }
        assertTrue(sft("--gradient_checkpointing", "--seed", "1").bool("gradient_checkpointing"));
        assertEquals(
                "--gradient_checkpointing must be true, false, auto or an integer, got 'some'",
                refused("--gradient_checkpointing", "some"));
    }

    @Test
    void absentValuesInAFileAndOnTheCommandLine() throws IOException {
        Path file = folder.resolve("a.json");
        Files.writeString(
                file, "{\"eval_steps\": null, \"lora_rank\": 4, \"layers_to_transform\": [0, 2], \"system\": \"--x\"}");
        Arguments a = sft(file.toString(), "--lora_rank", "None");
        assertFalse(a.has("eval_steps"));
        assertEquals(8, a.integer("lora_rank"));
        assertEquals("[0,2]", a.json("layers_to_transform").toString());
        assertEquals("--x", a.text("system"));
        assertEquals(-1, sft("--max_steps", "-1").integer("max_steps"));
    }

    @Test
    void argsJsonHoldsAllAndIsReadBack() throws IOException {
        Arguments a = sft(JOURNEY, "--rank_pattern", "{\"q_proj\": 4}", "--ask", "Who?", "What?");
        ObjectNode json = a.toJson();
        assertEquals(0.95, json.get("adam_beta2").doubleValue());
        assertTrue(json.get("bnb_4bit_use_double_quant").booleanValue());
        assertTrue(json.get("target_regex").isNull());
        Path file = folder.resolve("args.json");
        Files.writeString(file, json.toPrettyString());
        assertEquals(json, sft(file.toString()).toJson());
    }

    @Test
    void whatIsNotUnderstoodIsNamed() throws IOException {
        String unknown = refused("--lora_rnak", "8");
        assertTrue(unknown.startsWith("there is no option --lora_rnak; did you mean "), unknown);
        assertTrue(unknown.contains("--lora_rank, "), unknown);
        assertTrue(refused("--dataset", "a", "--lora_rnak", "8").contains("--lora_rnak"));
        assertEquals("--lora_rank must be an integer, got 'eight'", refused("--lora_rank", "eight"));
        assertEquals("--learning_rate must be a number, got 'fast'", refused("--learning_rate", "fast"));
        assertEquals("--add_version must be true or false, got 'yes'", refused("--add_version", "yes"));
        assertEquals("--rank_pattern must be JSON, got '{q_proj'", refused("--rank_pattern", "{q_proj"));
        assertEquals("there is no configuration file nothing.yaml", refused("nothing.yaml"));
        assertTrue(refused("--lora_rank").contains("--lora_rank"));
        Path file = folder.resolve("a.yaml");
        Files.writeString(file, "lora_rnak: 8");
        assertTrue(refused(file.toString()).startsWith(file + ": there is no option --lora_rnak; did you mean"));
        Files.writeString(file, "lora_rank: [8, 16]");
        assertEquals("--lora_rank must be an integer, got '8 16'", refused(file.toString()));
    }

    @Test
    void everyOptionOfEveryCommandHasOneLineOfHelp() {
        for (Command command : Command.values()) {
            String help = CommandLines.of(command).getUsageMessage();
            command.groups.stream().flatMap(g -> g.options().stream()).forEach(option -> {
                Stream<String> lines = help.lines().filter(l -> l.matches(".*--" + option.name() + "[= ].*"));
                assertEquals(1, lines.count(), option + help);
                String fallback = option.fallback().isEmpty() ? "" : " (" + option.fallback() + ")";
                assertTrue(help.contains(option.description() + fallback), option.name() + " is wrapped in " + help);
            });
        }
    }
}
