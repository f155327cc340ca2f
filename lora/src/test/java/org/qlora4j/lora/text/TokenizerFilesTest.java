package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.nf4.file.ModelFormatException;

class TokenizerFilesTest {
    @TempDir
    private Path folder;

    @BeforeEach
    void copyTokenizer() throws IOException {
        Files.copy(GoldenFiles.path("tokenizer/tiny_bytelevel_split/tokenizer.json"), folder.resolve("tokenizer.json"));
    }

    @Test
    void readsSpecialTokensFromAllFiles() throws IOException {
        write("tokenizer_config.json", """
                {"bos_token": {"content": "<|begin_of_text|>", "lstrip": false}, "eos_token": "<|end_of_text|>", "pad_token": null}""");
        write("special_tokens_map.json", "{\"pad_token\": \"<|eot_id|>\", \"eos_token\": \"no such token\"}");
        write("config.json", "{\"eos_token_id\": 5}");
        write("generation_config.json", "{\"eos_token_id\": [641, 642]}");
        try (TokenizerFiles files = TokenizerFiles.load(folder)) {
            SpecialTokens special = files.specialTokens();
            assertEquals(OptionalInt.of(640), special.bos());
            assertEquals(OptionalInt.of(641), special.eos());
            assertEquals(OptionalInt.empty(), special.pad());
            assertEquals(OptionalInt.empty(), special.unk());
            assertEquals(Set.of(641, 642), special.stop());
        }
    }

    @Test
    void tokenizerJsonAloneIsEnough() {
        try (TokenizerFiles files = TokenizerFiles.load(folder)) {
            assertEquals(OptionalInt.empty(), files.specialTokens().eos());
            assertEquals(Set.of(), files.specialTokens().stop());
            assertEquals(Optional.empty(), files.chatTemplate());
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ';',
            value = {
                "{\"chat_template\": \"A\"};                                                                         ; A",
                "{\"chat_template\": \"A\"};                                                                        B; B",
                "{\"chat_template\": [{\"name\":\"rag\",\"template\":\"C\"},{\"name\":\"default\",\"template\":\"D\"}]};; D",
                "{};                                                                                                 ;  ",
            })
    void findsTheChatTemplateAndWritesItAgain(String config, String jinja, String expected) throws IOException {
        write("tokenizer_config.json", config);
        if (jinja != null) {
            write("chat_template.jinja", jinja);
        }
        Path copy = Files.createDirectory(folder.resolve("copy"));
        try (TokenizerFiles files = TokenizerFiles.load(folder)) {
            assertEquals(Optional.ofNullable(expected), files.chatTemplate());
            files.writeTo(copy);
        }
        try (TokenizerFiles files = TokenizerFiles.load(copy)) {
            assertEquals(Optional.ofNullable(expected), files.chatTemplate());
        }
    }

    @ParameterizedTest
    @CsvSource({
        "tokenizer_config.json,  {\"bos_token\": \"<nothing>\"},  '<nothing>'",
        "tokenizer_config.json,  [],                              JSON object",
        "tokenizer_config.json,  {,                               not valid JSON",
        "generation_config.json, {\"eos_token_id\": \"x\"},       eos_token_id",
        "generation_config.json, {\"eos_token_id\": [-1]},        eos_token_id",
    })
    void refuses(String file, String content, String expected) throws IOException {
        write(file, content);
        var e = assertThrows(ModelFormatException.class, this::open);
        assertTrue(e.getMessage().contains(expected), e.getMessage());
    }

    private void open() {
        TokenizerFiles.load(folder).close();
    }

    private void write(String file, String content) throws IOException {
        Files.writeString(folder.resolve(file), content);
    }
}
