package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;

/** The small files beside a tokenizer.json: chat template, special tokens, ids; the first byte says which. */
class ChatTextFuzz {
    private static final List<String> FILES = List.of(
            "tokenizer_config.json",
            "generation_config.json",
            "special_tokens_map.json",
            "config.json",
            "chat_template.jinja");
    private static final Path FOLDER = Fuzzing.folder();

    @BeforeAll
    static void tokenizer() throws IOException {
        Files.copy(Fuzzing.golden("tokenizer/tiny_bytelevel_split/tokenizer.json"), FOLDER.resolve("tokenizer.json"));
    }

    static Stream<Arguments> seeds() {
        return Fuzzing.seeds(
                "\0{\"bos_token\":{\"content\":\"<s>\",\"lstrip\":false},\"eos_token\":\"</s>\",\"chat_template\":"
                        + "[{\"name\":\"default\",\"template\":\"{{ bos_token + messages[0].content }}\"}]}",
                "\0{\"pad_token\":null,\"chat_template\":\"{% for m in messages %}{{ m.role }}{% endfor %}\"}",
                "\1{\"eos_token_id\":[1,2],\"bos_token_id\":0,\"pad_token_id\":3}",
                "\2{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"a\"}}",
                "\3{\"bos_token_id\":1,\"eos_token_id\":[2]}",
                "\4{{ messages[0]['content'] + eos_token }}");
    }

    @MethodSource("seeds")
    @FuzzTest
    void files(byte[] input) {
        Fuzzing.hold(() -> {
            for (String file : FILES) {
                Files.deleteIfExists(FOLDER.resolve(file));
            }
            Files.write(FOLDER.resolve(FILES.get(Fuzzing.choice(input, FILES.size()))), Fuzzing.rest(input));
            try (ChatText text = ChatText.load(FOLDER)) {
                text.eosId();
                text.stopIds();
                text.ggufMetadata(1000);
                if (text.hasChatTemplate()) {
                    text.chatTemplate().render(List.of(Message.user("a")), true);
                }
            }
        });
    }
}
