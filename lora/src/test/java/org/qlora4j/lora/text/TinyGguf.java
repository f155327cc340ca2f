package org.qlora4j.lora.text;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Tokenizers as GGUF metadata, in the types {@code Gguf.metadata()} gives. */
final class TinyGguf {
    private static final String PREFIX = "tokenizer.ggml.";
    private static final String PRINTABLE_LATIN = "[!-~\u00A1-\u00AC\u00AE-\u00FF]";

    private TinyGguf() {}

    /**
     * A golden tokenizer: byte-level with its merges, SentencePiece with scores that fall in the order of the merges.
     */
    static Map<String, Object> of(String name) {
        JsonNode json = GoldenFiles.json("tokenizer/" + name + "/tokenizer.json");
        JsonNode vocabulary = json.at("/model/vocab");
        int size = vocabulary.size();
        for (JsonNode added : json.path("added_tokens")) {
            size = Math.max(size, added.path("id").asInt() + 1);
        }
        String[] tokens = new String[size];
        Long[] types = new Long[size];
        Arrays.fill(types, 1L);
        vocabulary.properties().forEach(entry -> tokens[entry.getValue().asInt()] = entry.getKey());
        for (JsonNode added : json.path("added_tokens")) {
            tokens[added.path("id").asInt()] = added.path("content").asText();
            types[added.path("id").asInt()] = added.path("special").asBoolean() ? 3L : 4L;
        }
        Map<String, Object> metadata = new HashMap<>();
        metadata.put(PREFIX + "tokens", List.of(tokens));
        if (json.at("/model/byte_fallback").asBoolean()) {
            scores(metadata, json.at("/model/merges"), tokens, types);
        } else {
            metadata.put(PREFIX + "model", "gpt2");
            metadata.put(PREFIX + "merges", merges(json.at("/model/merges")));
            metadata.put(PREFIX + "bos_token_id", 640L);
        }
        metadata.put(PREFIX + "token_type", List.of(types));
        return metadata;
    }

    private static void scores(Map<String, Object> metadata, JsonNode merges, String[] tokens, Long[] types) {
        Map<String, Double> scoreOf = new HashMap<>();
        for (JsonNode merge : merges) {
            scoreOf.putIfAbsent(merge.path(0).asText() + merge.path(1).asText(), -(double) scoreOf.size());
        }
        List<Double> scores = new ArrayList<>();
        for (int id = 0; id < tokens.length; id++) {
            scores.add(scoreOf.getOrDefault(tokens[id], types[id] == 1 ? -1e6 : 0.0));
            if (tokens[id].matches("<0x[0-9A-F]{2}>")) {
                types[id] = 6L;
            }
        }
        types[0] = 2L;
        metadata.put(PREFIX + "model", "llama");
        metadata.put(PREFIX + "scores", scores);
        metadata.put(PREFIX + "bos_token_id", 1L);
        metadata.put(PREFIX + "eos_token_id", 2L);
        metadata.put(PREFIX + "unknown_token_id", 0L);
    }

    private static List<Object> merges(JsonNode merges) {
        List<Object> lines = new ArrayList<>();
        for (JsonNode merge : merges) {
            lines.add(merge.path(0).asText() + " " + merge.path(1).asText());
        }
        return lines;
    }

    /** All 256 bytes, BOS 256, EOS 257, a control token 258, a user-defined token 259, then what the merges make. */
    static Map<String, Object> bytesWithMerges(String... merges) {
        List<Object> tokens = new ArrayList<>();
        List<Object> types = new ArrayList<>();
        for (int b = 0, other = 256; b < 256; b++) {
            String latin = Character.toString(b);
            tokens.add(latin.matches(PRINTABLE_LATIN) ? latin : Character.toString(other++));
            types.add(1L);
        }
        tokens.addAll(List.of("<b>", "<e>", "<t>", "<u>"));
        types.addAll(List.of(3L, 3L, 3L, 4L));
        for (String merge : merges) {
            tokens.add(merge.replace(" ", ""));
            types.add(1L);
        }
        Map<String, Object> metadata = new HashMap<>();
        metadata.put(PREFIX + "model", "gpt2");
        metadata.put(PREFIX + "pre", "gpt-2");
        metadata.put(PREFIX + "tokens", tokens);
        metadata.put(PREFIX + "token_type", types);
        metadata.put(PREFIX + "merges", List.of((Object[]) merges));
        metadata.put(PREFIX + "bos_token_id", 256L);
        metadata.put(PREFIX + "eos_token_id", 257L);
        return metadata;
    }
}
