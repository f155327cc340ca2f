package org.qlora4j.lora.text;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import org.qlora4j.nf4.file.ModelFormatException;

/** Tokens of a GGUF file with their types, and the ids of its special tokens; checked against each other. */
final class GgufVocabulary {
    /** Values of {@code tokenizer.ggml.token_type}. */
    enum Type {
        UNDEFINED,
        NORMAL,
        UNKNOWN,
        CONTROL,
        USER_DEFINED,
        UNUSED,
        BYTE
    }

    private final GgufMetadata metadata;
    private final List<String> tokens;
    private final List<Long> types;
    private final Map<String, Integer> ids;

    GgufVocabulary(GgufMetadata metadata) {
        this.metadata = metadata;
        tokens = metadata.array("tokenizer.ggml.tokens", String.class);
        types = metadata.has("tokenizer.ggml.token_type")
                ? metadata.array("tokenizer.ggml.token_type", Long.class)
                : List.of();
        if (tokens.isEmpty()) {
            throw metadata.error("metadata 'tokenizer.ggml.tokens' is empty");
        }
        if (!types.isEmpty() && types.size() != tokens.size()) {
            throw metadata.error("has " + tokens.size() + " tokens but " + types.size() + " token types");
        }
        ids = HashMap.newHashMap(tokens.size());
        for (int id = 0; id < tokens.size(); id++) {
            Integer other = ids.putIfAbsent(tokens.get(id), id);
            if (other != null) {
                throw metadata.error("token '" + TokenTable.shorten(tokens.get(id))
                        + "' stands twice in the vocabulary, with ids " + other + " and " + id);
            }
            type(id);
        }
    }

    int size() {
        return tokens.size();
    }

    String token(int id) {
        return tokens.get(id);
    }

    boolean has(String token) {
        return ids.containsKey(token);
    }

    /** The id of a token that is known to be there. */
    int id(String token) {
        Integer id = ids.get(token);
        if (id == null) {
            throw new IllegalArgumentException("no token '" + TokenTable.shorten(token) + "'");
        }
        return id;
    }

    Type type(int id) {
        long type = types.isEmpty() ? Type.NORMAL.ordinal() : types.get(id);
        if (type < 0 || type >= Type.values().length) {
            throw metadata.error("token " + id + " has type " + type + ", expected 0 to " + (Type.values().length - 1));
        }
        return Type.values()[(int) type];
    }

    /** The token a metadata key such as {@code tokenizer.ggml.bos_token_id} names. */
    OptionalInt special(String key) {
        Optional<Long> id = metadata.integer(key);
        if (id.isEmpty()) {
            return OptionalInt.empty();
        }
        if (id.get() < 0 || id.get() >= tokens.size()) {
            throw outside(key, id.get());
        }
        return OptionalInt.of(id.get().intValue());
    }

    private ModelFormatException outside(String key, long id) {
        return metadata.error("metadata '" + key + "' is " + id + ", but there are " + tokens.size() + " tokens");
    }
}
