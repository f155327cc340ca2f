package org.qlora4j.lora.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.model.GeneratedTensors;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;

/** Several answers at a time are the answers one by one: token by token, with a model of generated weights. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class GeneratorTest {
    private static final int VOCABULARY = 640;
    private static final int POSITIONS = 96;

    private Device device;
    private Transformer model;
    private ChatText text;
    private Generator generator;

    @BeforeAll
    void load(@TempDir Path folder) throws IOException {
        Path golden = Path.of(System.getProperty("qlora4j.golden"), "tokenizer/tiny_bytelevel_split/tokenizer.json");
        Files.copy(golden, folder.resolve("tokenizer.json"));
        Files.writeString(
                folder.resolve("tokenizer_config.json"),
                "{\"eos_token\": \"<|eot_id|>\", \"chat_template\": \"{{ messages[0].content }}\"}");
        // one token in forty ends an answer
        Files.writeString(
                folder.resolve("generation_config.json"),
                "{\"eos_token_id\": "
                        + java.util.stream.IntStream.range(0, 16)
                                .map(i -> 40 * i)
                                .boxed()
                                .toList() + "}");
        text = ChatText.load(folder);
        ObjectNode config = new ObjectMapper().createObjectNode();
        config.put("model_type", "qwen3").put("hidden_act", "silu").put("torch_dtype", "float32");
        config.put("vocab_size", VOCABULARY).put("hidden_size", 32).put("intermediate_size", 48);
        config.put("num_hidden_layers", 2).put("num_attention_heads", 4).put("num_key_value_heads", 2);
        config.put("head_dim", 8).put("max_position_embeddings", POSITIONS).put("rms_norm_eps", 1e-6);
        config.put("rope_theta", 10000).put("tie_word_embeddings", false);
        device = Devices.open("reference", 1);
        try (ModelSource source = GeneratedTensors.model(config, 3)) {
            model = ModelLoader.load(source, device, new ModelLoader.Options(DType.F32, null, 1), (done, all) -> {});
        }
        generator = new Generator(model, text);
    }

    @AfterAll
    void close() {
        model.close();
        device.close();
    }

    /** Prompts of 1 to 90 tokens: the longest ones leave no room for a whole answer. */
    private static List<int[]> prompts() {
        return Stream.of(5, 1, 90, 17, 2, 33, 8, 95, 60)
                .map(n -> new SplittableRandom(n).ints(n, 1, VOCABULARY).toArray())
                .toList();
    }

    static Stream<Sampling> samplings() {
        return Stream.of(
                Sampling.GREEDY,
                new Sampling(0, 0, 1, 1.3, 0),
                new Sampling(1, 0, 1, 1, 7),
                new Sampling(0.8, 50, 0.9, 1.1, 8));
    }

    @ParameterizedTest
    @MethodSource("samplings")
    void anAnswerDoesNotDependOnThoseBesideIt(Sampling sampling) {
        Ending ending = new Ending(24, List.of("e", "th"));
        List<String> alone = prompts().stream()
                .map(ids -> generator.complete(ids, sampling, ending, piece -> {}))
                .toList();
        List<Integer> tokensAlone = new ArrayList<>();
        for (int batchSize : new int[] {1, 2, 3, 4, 100}) {
            String[] answers = new String[alone.size()];
            int[] tokens = new int[answers.length];
            List<Integer> order = new ArrayList<>();
            generator.completeAll(prompts(), sampling, ending, batchSize, (prompt, answer, count) -> {
                answers[prompt] = answer;
                tokens[prompt] = count;
                order.add(prompt);
            });
            assertEquals(alone, List.of(answers), "batch size " + batchSize);
            assertEquals(answers.length, new HashSet<>(order).size(), "each once");
            List<Integer> counts = java.util.Arrays.stream(tokens).boxed().toList();
            tokensAlone = tokensAlone.isEmpty() ? counts : tokensAlone;
            assertEquals(tokensAlone, counts, "tokens with batch size " + batchSize);
        }
        Set<Integer> lengths = new HashSet<>(tokensAlone);
        assertTrue(lengths.size() > 3, "they end at different times: " + tokensAlone);
        assertTrue(tokensAlone.get(7) <= 2, "95 tokens of 96 leave room for one, and for what follows it");
        assertTrue(lengths.stream().allMatch(n -> n >= 1 && n <= 24), tokensAlone.toString());
        assertEquals(0, device.bytesHeld() - heldAfterOne(), "caches are given back");
    }

    private long heldAfterOne() {
        generator.complete(new int[] {1}, Sampling.GREEDY, new Ending(1, List.of()), piece -> {});
        return device.bytesHeld();
    }

    @Test
    void conversationsAreAnsweredInTheirOrder() {
        List<List<Message>> conversations = Stream.of("Hello", "What is this?", "a")
                .map(t -> List.of(Message.user(t)))
                .toList();
        Sampling sampling = new Sampling(1, 0, 1, 1, 3);
        Ending ending = new Ending(12, List.of());
        List<String> answers = generator.answerAll(conversations, sampling, ending, 2);
        for (int i = 0; i < answers.size(); i++) {
            assertEquals(generator.answer(conversations.get(i), sampling, ending, piece -> {}), answers.get(i));
        }
        assertEquals(List.of(), generator.answerAll(List.of(), sampling, ending, 2));
    }

    @Test
    void mistakesAreNamedBeforeTheFirstAnswer() {
        Ending ending = new Ending(4, List.of());
        List<Integer> answered = new ArrayList<>();
        List<int[]> prompts = List.of(new int[] {1}, new int[POSITIONS]);
        assertEquals(
                "prompt 2 of 2 has 96 tokens, the model takes 1 to 95; shorten the conversation",
                assertThrows(
                                IllegalArgumentException.class,
                                () -> generator.completeAll(
                                        prompts, Sampling.GREEDY, ending, 1, (p, answer, n) -> answered.add(p)))
                        .getMessage());
        assertEquals(
                "max_batch_size must be at least 1, got 0",
                assertThrows(
                                IllegalArgumentException.class,
                                () -> generator.answerAll(List.of(), Sampling.GREEDY, ending, 0))
                        .getMessage());
        assertEquals(List.of(), answered);
        // keys and values of 5 and 94 tokens, 2 layers, 2 heads of 8, double
        assertArrayEquals(
                new long[] {2L * 2 * 5 * 16 * 8, 2L * 2 * 94 * 16 * 8},
                generator.cacheBytes(List.of(new int[1], new int[90]), ending));
    }
}
