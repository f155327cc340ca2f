package org.qlora4j.samples;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** The golden Llama of 180,000 parameters with a tokenizer of one token a byte, as a folder of its own. */
final class TinyModel {
    private static final String TEMPLATE = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
            + "{% if add_generation_prompt %}<s>assistant\n{% endif %}";

    private TinyModel() {}

    /** Writes the model into a new folder. */
    static Path write(Path folder) throws IOException {
        Path golden = Path.of(System.getProperty("qlora4j.golden"), "models/llama/base");
        Files.createDirectories(folder);
        for (String file : List.of("config.json", "model.safetensors")) {
            Files.copy(golden.resolve(file), folder.resolve(file));
        }
        ObjectMapper mapper = new ObjectMapper();
        ObjectNode tokenizer = (ObjectNode) mapper.readTree("""
                {"version": "1.0", "added_tokens": [],
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
                 "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
                 "model": {"type": "BPE", "vocab": {}, "merges": []}}""");
        ObjectNode vocabulary = (ObjectNode) tokenizer.path("model").path("vocab");
        List<String> special = List.of("<unk>", "<s>", "</s>");
        special.forEach(token -> vocabulary.put(token, vocabulary.size()));
        byteCharacters().forEach(c -> vocabulary.put(c, vocabulary.size()));
        for (int i = 0; i < special.size(); i++) {
            tokenizer
                    .withArray("added_tokens")
                    .addObject()
                    .put("id", i)
                    .put("content", special.get(i))
                    .put("single_word", false)
                    .put("lstrip", false)
                    .put("rstrip", false)
                    .put("normalized", false)
                    .put("special", true);
        }
        Files.writeString(folder.resolve("tokenizer.json"), tokenizer.toString());
        Files.writeString(
                folder.resolve("tokenizer_config.json"),
                mapper.createObjectNode()
                        .put("eos_token", "</s>")
                        .put("chat_template", TEMPLATE)
                        .toString());
        return folder;
    }

    /** GPT-2's character for each byte: printable ones stand for themselves. */
    private static List<String> byteCharacters() {
        List<String> characters = new ArrayList<>();
        int next = 256;
        for (int b = 0; b < 256; b++) {
            boolean printable = b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE;
            characters.add(Character.toString(printable ? b : next++));
        }
        return characters;
    }

    /** Rows to train on, as a file. */
    static Path rows(Path file) throws IOException {
        StringBuilder rows = new StringBuilder();
        for (int i = 0; i < 8; i++) {
            rows.append("{\"query\": \"count to ").append(i).append("\", \"response\": \"");
            for (int n = 1; n <= i; n++) {
                rows.append(n).append(' ');
            }
            rows.append("done\"}\n");
        }
        Files.writeString(file, rows);
        return file;
    }
}
