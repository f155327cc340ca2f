package org.qlora4j.lora.text;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.BitSet;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Tokens by id and ids by token, those of the model and the added ones. */
final class TokenTable {
    private final Map<String, Integer> ids;
    private final @Nullable String[] tokens;
    private final BitSet special = new BitSet();

    private TokenTable(Map<String, Integer> ids, @Nullable String[] tokens) {
        this.ids = ids;
        this.tokens = tokens;
    }

    /**
     * @param vocabulary ids by token; taken over and completed
     * @param added the section added_tokens
     */
    static TokenTable of(Map<String, Integer> vocabulary, JsonNode added) {
        if (!added.isNull() && !added.isArray()) {
            throw new IllegalArgumentException(
                    "section 'added_tokens': expected an array, found " + added.getNodeType());
        }
        int entries = vocabulary.size();
        addAdded(vocabulary, added, entries);
        int highest = 0;
        for (int id : vocabulary.values()) {
            highest = Math.max(highest, id);
        }
        // real vocabularies have few gaps; a table for an id out of all proportion would only cost memory
        if (highest > 4L * vocabulary.size() + 65_536) {
            throw new IllegalArgumentException(
                    "token id " + highest + " is out of proportion to " + vocabulary.size() + " tokens");
        }
        TokenTable table = new TokenTable(vocabulary, new @Nullable String[highest + 1]);
        vocabulary.forEach(table::place);
        for (JsonNode token : added) {
            Integer id = vocabulary.get(token.path("content").asText());
            if (id != null && token.path("special").asBoolean()) {
                table.special.set(id);
            }
        }
        return table;
    }

    private static void addAdded(Map<String, Integer> vocabulary, JsonNode added, int entries) {
        int next = entries;
        for (JsonNode token : added) {
            String content = token.path("content").asText("");
            JsonNode id = token.path("id");
            if (!id.isInt() || id.asInt() < 0) {
                throw new IllegalArgumentException(
                        "added token '" + shorten(content) + "': expected an id >= 0, found " + id);
            }
            if (content.isEmpty()) {
                continue; // as the library does
            }
            // tokenizers 0.21 (AddedVocabulary::add_tokens) ignores the written id
            Integer known = vocabulary.putIfAbsent(content, next);
            int given = known == null ? next : known;
            if (given != id.asInt()) {
                throw new IllegalArgumentException("added token '" + shorten(content) + "' has id " + id.asInt()
                        + ", but the tokenizers library would use " + given
                        + ": added tokens must be in the vocabulary under their id, or follow it without gaps");
            }
            next = Math.max(next, given + 1);
        }
    }

    private void place(String token, int id) {
        String other = tokens[id];
        if (other != null) {
            throw new IllegalArgumentException(
                    "tokens '" + shorten(other) + "' and '" + shorten(token) + "' have the same id " + id);
        }
        tokens[id] = token;
    }

    /** One more than the highest id. */
    int size() {
        return tokens.length;
    }

    @Nullable
    String token(int id) {
        return id < tokens.length ? tokens[id] : null;
    }

    @Nullable
    Integer id(String token) {
        return ids.get(token);
    }

    boolean isSpecial(int id) {
        return special.get(id);
    }

    /** For messages: hostile files have long tokens. */
    static String shorten(String token) {
        return token.length() <= 60 ? token : token.substring(0, 60) + "…";
    }
}
