package org.qlora4j.lora.text;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.text.jinja.Span;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;

/**
 * A model's way with text: its tokenizer, chat template and stop tokens, and the files they came from, to be written
 * beside every adapter.
 */
public final class ChatText implements AutoCloseable {
    private final Path model;
    /** Null if the model has none: it can be trained and evaluated on rows of tokens. */
    private final @Nullable Tokenizer tokenizer;

    private final @Nullable String template;
    private final ObjectNode tokenizerConfig;
    private final ObjectNode generationConfig;
    private final Set<Integer> stopIds;

    private ChatText(
            Path model,
            @Nullable Tokenizer tokenizer,
            @Nullable String template,
            ObjectNode tokenizerConfig,
            ObjectNode generationConfig,
            Set<Integer> stopIds) {
        this.model = model;
        this.tokenizer = tokenizer;
        this.template = template;
        this.tokenizerConfig = tokenizerConfig;
        this.generationConfig = generationConfig;
        this.stopIds = Set.copyOf(stopIds);
    }

    /**
     * Of a GGUF file, or of a Hugging Face or adapter folder. A folder may be without tokenizer.json, and a GGUF file
     * may say that it has no tokenizer; what needs one fails then, and rows of tokens do not.
     *
     * @throws ModelFormatException if its tokenizer is damaged or not supported
     */
    public static ChatText load(Path model) {
        return Files.isDirectory(model) ? ofFolder(model) : ofGguf(model);
    }

    private static ChatText ofGguf(Path file) {
        try (Gguf gguf = Gguf.open(file)) {
            if (gguf.text(GgufTokenizer.MODEL).orElse("").equals(GgufTokenizer.NONE)) {
                ObjectNode nothing = JsonNodeFactory.instance.objectNode();
                return new ChatText(file, null, null, nothing, nothing.deepCopy(), Set.of());
            }
            GgufTokenizer converted = GgufTokenizer.of(gguf);
            SpecialTokens special = converted.specialTokens();
            ObjectNode generation = JsonNodeFactory.instance.objectNode();
            special.bos().ifPresent(id -> generation.put("bos_token_id", id));
            special.eos().ifPresent(id -> generation.put("eos_token_id", id));
            special.pad().ifPresent(id -> generation.put("pad_token_id", id));
            ObjectNode config = converted.tokenizerConfig();
            String template = textOrNull(config.path("chat_template"));
            return new ChatText(
                    file, Tokenizer.fromJson(converted.tokenizerJson()), template, config, generation, special.stop());
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(file, "its tokenizer: " + e.getMessage(), e);
        }
    }

    private static ChatText ofFolder(Path folder) {
        ObjectNode config = object(folder.resolve("tokenizer_config.json"));
        ObjectNode generation = object(folder.resolve("generation_config.json"));
        ObjectNode special = object(folder.resolve("special_tokens_map.json"));
        ObjectNode model = object(folder.resolve("config.json"));
        String template = template(folder, config);
        if (!isIn(folder)) {
            return new ChatText(folder, null, template, config, generation, ids(generation, "eos_token_id"));
        }
        Tokenizer tokenizer = Tokenizer.load(folder);
        try {
            for (String name : List.of("bos_token", "eos_token")) {
                complete(config, name, special, ids(model, name + "_id"), tokenizer);
            }
            Set<Integer> stop = new LinkedHashSet<>(ids(generation, "eos_token_id"));
            if (stop.isEmpty()) {
                stop.addAll(ids(model, "eos_token_id"));
            }
            tokenizer.id(token(config.path("eos_token"))).ifPresent(stop::add);
            return new ChatText(folder, tokenizer, template, config, generation, stop);
        } catch (RuntimeException | Error e) {
            tokenizer.close();
            throw e;
        }
    }

    /** Where tokenizer_config.json does not name a token, special_tokens_map.json may, or config.json by its id. */
    private static void complete(
            ObjectNode config, String name, ObjectNode special, Set<Integer> ids, Tokenizer tokenizer) {
        if (config.has(name)) {
            return;
        }
        String named = token(special.path(name));
        if (!named.isEmpty()) {
            config.put(name, named);
        } else if (!ids.isEmpty()) {
            tokenizer.token(ids.iterator().next()).ifPresent(token -> config.put(name, token));
        }
    }

    /** One id or several. */
    private static Set<Integer> ids(ObjectNode config, String key) {
        Set<Integer> ids = new LinkedHashSet<>();
        JsonNode value = config.path(key);
        if (value.isIntegralNumber()) {
            ids.add(value.intValue());
        }
        value.forEach(id -> ids.add(id.intValue()));
        return ids;
    }

    private static ObjectNode object(Path file) {
        return Files.isRegularFile(file) ? ModelSource.readObject(file) : JsonNodeFactory.instance.objectNode();
    }

    private static @Nullable String template(Path folder, ObjectNode config) {
        Path file = folder.resolve("chat_template.jinja");
        if (Files.isRegularFile(file)) {
            try {
                return Files.readString(file);
            } catch (IOException e) {
                throw new UncheckedIOException("cannot read " + file + ": " + e, e);
            }
        }
        JsonNode node = config.path("chat_template");
        for (JsonNode named : node) {
            if (named.path("name").asText().equals("default")) {
                return textOrNull(named.path("template"));
            }
        }
        return textOrNull(node);
    }

    private static @Nullable String textOrNull(JsonNode node) {
        return node.isTextual() ? node.textValue() : null;
    }

    /** A token is written as a string, or as an object with its content. */
    private static String token(JsonNode node) {
        return node.isObject() ? node.path("content").asText("") : node.asText("");
    }

    /** The tokenizer. @throws ModelFormatException if the model's folder has none */
    public Tokenizer tokenizer() {
        return tokenizer == null ? Tokenizer.load(model) : tokenizer;
    }

    /** Whether there is a tokenizer. */
    public boolean hasTokenizer() {
        return tokenizer != null;
    }

    /** The token that ends a text, if the model names one. */
    public OptionalInt eosId() {
        return id("eos_token");
    }

    private OptionalInt id(String name) {
        return tokenizer == null ? OptionalInt.empty() : tokenizer.id(token(tokenizerConfig.path(name)));
    }

    /** Ids that end an answer. */
    public Set<Integer> stopIds() {
        return stopIds;
    }

    /** Whether there is a chat template. */
    public boolean hasChatTemplate() {
        return template != null;
    }

    /** The chat template. @throws IllegalArgumentException if the model has none or it is not supported */
    public ChatTemplate chatTemplate() {
        if (template == null) {
            throw new IllegalArgumentException("the model has no chat template; use an instruction-tuned model");
        }
        return new ChatTemplate(
                template, token(tokenizerConfig.path("bos_token")), token(tokenizerConfig.path("eos_token")));
    }

    /**
     * Tokens of a conversation with labels on what the assistant wrote. No special token is added: the template has
     * them.
     */
    public Batch.Row trainingRow(ChatTemplate chat, List<Message> messages) {
        RenderedChat conversation = chat.training(messages, Map.of());
        return row(conversation.text(), conversation.assistantSpans());
    }

    /**
     * Tokens of a rendered text with labels on the tokens that lie in the spans. No special token is added, and what is
     * learned is decided by position, never by token id: the end of a turn may be the padding token.
     */
    public Batch.Row row(String rendered, List<Span> learned) {
        Encoding encoding = tokenizer().encodeWithOffsets(rendered);
        int[] labels = new int[encoding.size()];
        Arrays.fill(labels, Batch.IGNORED);
        for (Span span : learned) {
            for (int i = 0; i < labels.length; i++) {
                if (encoding.starts()[i] >= span.start()
                        && encoding.ends()[i] <= span.end()
                        && encoding.ends()[i] > encoding.starts()[i]) {
                    labels[i] = encoding.ids()[i];
                }
            }
        }
        return new Batch.Row(encoding.ids(), labels);
    }

    /**
     * Tokenizer and chat template as GGUF metadata; that there is none, for a model without tokenizer.
     *
     * @param vocabSize rows of the model's embedding
     * @throws IllegalArgumentException if llama.cpp has no tokenizer of this kind
     */
    public Map<String, Object> ggufMetadata(int vocabSize) {
        if (!hasTokenizer()) {
            return Map.of(GgufTokenizer.MODEL, GgufTokenizer.NONE);
        }
        SpecialTokens special = new SpecialTokens(
                specialId("bos_token"),
                specialId("eos_token"),
                specialId("pad_token"),
                specialId("unk_token"),
                stopIds);
        Map<String, Object> metadata = GgufTokenizerWriter.metadata(tokenizer(), special, vocabSize);
        if (template != null) {
            metadata.put("tokenizer.chat_template", template);
        }
        return metadata;
    }

    private OptionalInt specialId(String name) {
        OptionalInt id = id(name);
        JsonNode written = generationConfig.path(name + "_id");
        return id.isEmpty() && written.isInt() ? OptionalInt.of(written.intValue()) : id;
    }

    /**
     * Writes tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json; nothing if there is
     * no tokenizer.
     */
    public void save(Path folder) {
        if (tokenizer == null) {
            return;
        }
        AtomicFile.writeString(folder.resolve("tokenizer.json"), tokenizer.json());
        ObjectNode config = tokenizerConfig.deepCopy();
        config.remove("chat_template");
        AtomicFile.writeString(folder.resolve("tokenizer_config.json"), config.toPrettyString() + "\n");
        AtomicFile.writeString(folder.resolve("generation_config.json"), generationConfig.toPrettyString() + "\n");
        if (template != null) {
            AtomicFile.writeString(folder.resolve("chat_template.jinja"), template);
        }
    }

    /** Everything that decides about the tokens of a text or conversation. */
    public String settings() {
        return (tokenizer == null ? "" : tokenizer.json()) + "\n" + tokenizerConfig + "\n" + template;
    }

    /** Whether a folder holds a tokenizer of its own. */
    public static boolean isIn(Path folder) {
        return Files.isRegularFile(folder.resolve("tokenizer.json"));
    }

    @Override
    public void close() {
        if (tokenizer != null) {
            tokenizer.close();
        }
    }
}
