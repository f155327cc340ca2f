package org.qlora4j.lora.data;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.qlora4j.lora.hub.Hub;
import org.qlora4j.lora.hub.HubClient;
import org.qlora4j.lora.hub.HubProgress;
import org.qlora4j.lora.hub.HubSettings;
import org.qlora4j.lora.text.ChatText;

/** A small real tokenizer with a template in the manner of Llama 3. Its padding token is the one that ends a turn. */
final class TinyModel {
    static final int VOCABULARY = 640;
    static final String TEMPLATE =
            "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + ']' + m.content + '<|eot_id|>' }}{% endfor %}"
                    + "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}";

    private TinyModel() {}

    static ChatText text(Path folder) {
        return text(folder, TEMPLATE);
    }

    static ChatText text(Path folder, String template) {
        try {
            Files.copy(
                    Path.of(
                            System.getProperty("qlora4j.golden"),
                            "tokenizer",
                            "tiny_bytelevel_split",
                            "tokenizer.json"),
                    folder.resolve("tokenizer.json"));
            ObjectNode config = new ObjectMapper().createObjectNode();
            config.put("bos_token", "<|begin_of_text|>");
            config.put("eos_token", "<|eot_id|>");
            config.put("pad_token", "<|eot_id|>");
            config.put("chat_template", template);
            Files.writeString(folder.resolve("tokenizer_config.json"), config.toString());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return ChatText.load(folder);
    }

    static RowParser parser() {
        return new RowParser(Map.of(), null, null);
    }

    static ExampleEncoder encoder(ChatText text, LossScale scale) {
        return new ExampleEncoder(text, text.chatTemplate(), null, scale, VOCABULARY);
    }

    /** A hub that has nothing and downloads nothing. */
    static HubClient offline(Path home) {
        return new HubClient(new HubSettings(Map.of("HF_HUB_OFFLINE", "1"), home), Hub.MODELSCOPE, new HubProgress() {
            @Override
            public void say(String line) {}

            @Override
            public void bytes(String what, long done, long all) {}
        });
    }
}
