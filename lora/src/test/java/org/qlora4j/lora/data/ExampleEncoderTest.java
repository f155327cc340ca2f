package org.qlora4j.lora.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.ChatText;

/** What is learned of a conversation. */
class ExampleEncoderTest {
    private static final String TALK = "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"},"
            + " {\"role\": \"assistant\", \"content\": \"a\"%s}, {\"role\": \"user\", \"content\": \"r\"},"
            + " {\"role\": \"assistant\", \"content\": \"b\"%s}]}";

    @TempDir
    Path folder;

    private static Batch.Row row(ChatText text, LossScale scale, String json) {
        return TinyModel.encoder(text, scale).encode(TinyModel.parser().parse(json.getBytes(StandardCharsets.UTF_8)));
    }

    private static String learned(ChatText text, Batch.Row row) {
        return text.tokenizer()
                .decode(IntStream.of(row.labels())
                        .filter(l -> l != Batch.IGNORED)
                        .toArray());
    }

    @ParameterizedTest
    @CsvSource({
        "DEFAULT, '', '', a<|eot_id|>b<|eot_id|>",
        "LAST_ROUND, '', '', b<|eot_id|>",
        "DEFAULT, ', \"loss\": false', '', b<|eot_id|>",
        "DEFAULT, '', ', \"loss\": 0', a<|eot_id|>",
        "LAST_ROUND, ', \"loss\": true', '', a<|eot_id|>b<|eot_id|>",
        "ALL, '', '', <|begin_of_text|>[user]q<|eot_id|>[assistant]a<|eot_id|>[user]r<|eot_id|>[assistant]b<|eot_id|>"
    })
    void theMaskFollowsLossScaleAndMessages(LossScale scale, String first, String second, String expected) {
        try (ChatText text = TinyModel.text(folder)) {
            assertEquals(expected, learned(text, row(text, scale, TALK.formatted(first, second))));
        }
    }

    /** The block marks more than the rules would find; a message's own loss still counts. */
    @Test
    void generationBlocksAreHonoured() {
        String template =
                "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ '<think>' + m.content + '<|eot_id|>!' }}"
                        + "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
        try (ChatText text = TinyModel.text(folder, template)) {
            assertEquals(
                    "<think>a<|eot_id|>!<think>b<|eot_id|>!",
                    learned(text, row(text, LossScale.DEFAULT, TALK.formatted("", ""))));
            assertEquals("<think>b<|eot_id|>!", learned(text, row(text, LossScale.LAST_ROUND, TALK.formatted("", ""))));
            assertEquals(
                    "<think>a<|eot_id|>!",
                    learned(text, row(text, LossScale.DEFAULT, TALK.formatted("", ", \"loss\": false"))));
        }
    }

    /** the padding token is the one that ends the turn, and still it is learned. */
    @Test
    void r16TheEndOfATurnIsALabelThoughItIsThePaddingToken() {
        try (ChatText text = TinyModel.text(folder)) {
            Batch.Row row = row(text, LossScale.DEFAULT, TALK.formatted("", ""));
            int last = row.labels()[row.labels().length - 1];
            assertEquals(text.tokenizer().id("<|eot_id|>").getAsInt(), last);
        }
    }

    /** the template writes a BOS and the tokenizer's post-processor would write another. */
    @Test
    void r18ThereIsOneBos() {
        try (ChatText text = TinyModel.text(folder)) {
            int bos = text.tokenizer().id("<|begin_of_text|>").getAsInt();
            Batch.Row chat = row(text, LossScale.DEFAULT, TALK.formatted("", ""));
            Batch.Row plain = row(text, LossScale.DEFAULT, "{\"text\": \"hello\"}");
            for (Batch.Row row : new Batch.Row[] {chat, plain}) {
                assertEquals(1, IntStream.of(row.ids()).filter(id -> id == bos).count());
                assertEquals(bos, row.ids()[0]);
            }
        }
    }

    @Test
    void plainTextIsLearnedAsAWholeWithItsEnd() {
        try (ChatText text = TinyModel.text(folder)) {
            assertEquals(
                    "<|begin_of_text|>hello<|eot_id|>",
                    learned(text, row(text, LossScale.DEFAULT, "{\"text\": \"hello\"}")));
        }
    }

    @Test
    void tokensMustBeInTheVocabulary() {
        try (ChatText text = TinyModel.text(folder)) {
            String row = "{\"input_ids\": [1, %d], \"labels\": [-100, %d]}";
            assertEquals(
                    1, row(text, LossScale.DEFAULT, row.formatted(639, 639)).labelTokens());
            for (int[] bad : new int[][] {{640, 1}, {-1, 1}, {1, 640}, {1, -5}}) {
                assertThrows(
                        IllegalArgumentException.class,
                        () -> row(text, LossScale.DEFAULT, row.formatted(bad[0], bad[1])));
            }
        }
    }

    @Test
    void aSystemTurnIsAddedWhereThereIsNone() {
        try (ChatText text = TinyModel.text(folder)) {
            ExampleEncoder encoder =
                    new ExampleEncoder(text, text.chatTemplate(), "S", LossScale.LAST_ROUND, TinyModel.VOCABULARY);
            Batch.Row row = encoder.encode(
                    TinyModel.parser().parse(TALK.formatted("", "").getBytes(StandardCharsets.UTF_8)));
            assertEquals(
                    "<|begin_of_text|>[system]S<|eot_id|>[user]q<|eot_id|>[assistant]a<|eot_id|>[user]r<|eot_id|>[assistant]b<|eot_id|>",
                    text.tokenizer().decode(row.ids()));
            assertEquals("b<|eot_id|>", learned(text, row));
        }
    }
}
