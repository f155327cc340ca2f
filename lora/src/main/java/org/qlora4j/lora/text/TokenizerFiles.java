package org.qlora4j.lora.text;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.errorprone.annotations.MustBeClosed;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import java.util.TreeSet;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;

/**
 * A tokenizer with what belongs to it: special tokens, chat template, and the text of its files, to be written beside
 * an adapter.
 */
public final class TokenizerFiles implements AutoCloseable {
    private static final String CONFIG = "tokenizer_config.json";
    private static final String TEMPLATE = "chat_template.jinja";
    /** Far above the largest tokenizer_config.json (some list 1000 added tokens, 200 kB). */
    private static final long MAX_BYTES = 16L << 20;

    private final Tokenizer tokenizer;
    private final ObjectNode config;
    private final Optional<String> templateFile;
    private final SpecialTokens special;

    private TokenizerFiles(
            Tokenizer tokenizer, ObjectNode config, Optional<String> templateFile, SpecialTokens special) {
        this.tokenizer = tokenizer;
        this.config = config;
        this.templateFile = templateFile;
        this.special = special;
    }

    /**
     * Loads tokenizer.json of a model folder and, where they are there, tokenizer_config.json, special_tokens_map.json,
     * chat_template.jinja and the stop tokens of generation_config.json, else of config.json.
     *
     * @throws ModelFormatException if a file is damaged, or names a special token that the vocabulary lacks
     * @throws UncheckedIOException if one cannot be read
     */
    @MustBeClosed
    public static TokenizerFiles load(Path folder) {
        ObjectNode config = read(folder.resolve(CONFIG));
        read(folder.resolve("special_tokens_map.json"))
                .properties()
                .forEach(entry -> config.putIfAbsent(entry.getKey(), entry.getValue()));
        ObjectNode generation = read(folder.resolve("generation_config.json"));
        JsonNode stop = generation.has("eos_token_id")
                ? generation.path("eos_token_id")
                : read(folder.resolve("config.json")).path("eos_token_id");
        Path template = folder.resolve(TEMPLATE);
        Optional<String> templateFile = Files.exists(template) ? Optional.of(text(template)) : Optional.empty();
        Tokenizer tokenizer = Tokenizer.load(folder);
        try {
            return new TokenizerFiles(tokenizer, config, templateFile, special(folder, config, stop, tokenizer));
        } catch (RuntimeException | Error e) {
            tokenizer.close();
            throw e;
        }
    }

    /**
     * Builds the files from the metadata of a GGUF file.
     *
     * @throws ModelFormatException if it has no tokenizer, or one that is damaged or not supported
     */
    @MustBeClosed
    public static TokenizerFiles of(Gguf gguf) {
        GgufTokenizer converted = GgufTokenizer.of(gguf);
        try {
            return new TokenizerFiles(
                    Tokenizer.fromJson(converted.tokenizerJson()),
                    converted.tokenizerConfig(),
                    Optional.empty(),
                    converted.specialTokens());
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(gguf.location(), "tokenizer: " + e.getMessage(), e);
        }
    }

    /** The tokenizer; closed with this object. */
    public Tokenizer tokenizer() {
        return tokenizer;
    }

    /** Ids of the special tokens. */
    public SpecialTokens specialTokens() {
        return special;
    }

    /**
     * The Jinja source of the chat template: chat_template.jinja, else the one in tokenizer_config.json (of several,
     * "default").
     */
    public Optional<String> chatTemplate() {
        if (templateFile.isPresent()) {
            return templateFile;
        }
        JsonNode template = config.path("chat_template");
        if (template.isTextual()) {
            return Optional.of(template.asText());
        }
        for (JsonNode named : template) {
            if (named.path("name").asText().equals("default")
                    && named.path("template").isTextual()) {
                return Optional.of(named.path("template").asText());
            }
        }
        return Optional.empty();
    }

    /**
     * Writes tokenizer.json, tokenizer_config.json and, if there was one, chat_template.jinja; transformers loads them.
     */
    public void writeTo(Path folder) {
        try {
            Files.writeString(folder.resolve("tokenizer.json"), tokenizer.json());
            Files.writeString(folder.resolve(CONFIG), config.toPrettyString() + "\n");
            if (templateFile.isPresent()) {
                Files.writeString(folder.resolve(TEMPLATE), templateFile.get());
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public void close() {
        tokenizer.close();
    }

    private static SpecialTokens special(Path folder, ObjectNode config, JsonNode stopIds, Tokenizer tokenizer) {
        OptionalInt eos = id(folder, config, "eos_token", tokenizer);
        Set<Integer> stop = new TreeSet<>();
        eos.ifPresent(stop::add);
        for (JsonNode id : stopIds.isArray()
                ? stopIds
                : JsonNodeFactory.instance.arrayNode().add(stopIds)) {
            if (id.isInt() && id.asInt() >= 0) {
                stop.add(id.asInt());
            } else if (!id.isNull() && !id.isMissingNode()) {
                throw new ModelFormatException(folder, "eos_token_id: expected token ids, found " + stopIds);
            }
        }
        return new SpecialTokens(
                id(folder, config, "bos_token", tokenizer),
                eos,
                id(folder, config, "pad_token", tokenizer),
                id(folder, config, "unk_token", tokenizer),
                stop);
    }

    private static OptionalInt id(Path folder, ObjectNode config, String name, Tokenizer tokenizer) {
        JsonNode token = config.path(name).isObject() ? config.path(name).path("content") : config.path(name);
        if (token.isNull() || token.isMissingNode()) {
            return OptionalInt.empty();
        }
        OptionalInt id = tokenizer.id(token.asText());
        if (id.isEmpty()) {
            throw new ModelFormatException(
                    folder.resolve(CONFIG),
                    name + " is '" + TokenTable.shorten(token.asText()) + "', which tokenizer.json does not have");
        }
        return id;
    }

    private static ObjectNode read(Path file) {
        if (!Files.exists(file)) {
            return JsonNodeFactory.instance.objectNode();
        }
        try {
            if (new JsonMapper().readTree(text(file)) instanceof ObjectNode object) {
                return object;
            }
            throw new ModelFormatException(file, "expected a JSON object");
        } catch (JsonProcessingException e) {
            throw new ModelFormatException(file, "not valid JSON: " + e.getOriginalMessage(), e);
        }
    }

    private static String text(Path file) {
        try {
            if (Files.size(file) > MAX_BYTES) {
                throw new ModelFormatException(
                        file, "has " + Files.size(file) + " bytes, expected at most " + MAX_BYTES);
            }
            return Files.readString(file);
        } catch (CharacterCodingException e) {
            throw new ModelFormatException(file, "not valid UTF-8", e);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
