package org.qlora4j.lora.text;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A tokenizer as GGUF metadata ({@code tokenizer.ggml.…}): the way back of {@link GgufTokenizer}.
 *
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer">the metadata</a>
 */
final class GgufTokenizerWriter {
    private static final String PREFIX = "tokenizer.ggml.";
    /** Score of tokens that no merge makes: single characters and those that are never made from a text. */
    private static final float NO_SCORE = -1e6f;

    private static final char FIRST_MAPPED_BYTE = 256;

    private final JsonNode json;
    private final String[] tokens;
    private final Integer[] types;
    private final Map<String, Object> metadata = new LinkedHashMap<>();

    private GgufTokenizerWriter(Tokenizer tokenizer, int vocabSize) {
        if (tokenizer.vocabSize() > vocabSize) {
            throw new IllegalArgumentException("the tokenizer has ids up to " + (tokenizer.vocabSize() - 1)
                    + ", the model's embedding only " + vocabSize + " rows");
        }
        try {
            this.json = new ObjectMapper().readTree(tokenizer.json());
        } catch (JsonProcessingException e) {
            throw new IllegalStateException("a tokenizer that was loaded is JSON", e);
        }
        this.tokens = new String[vocabSize];
        this.types = new Integer[vocabSize];
        for (int id = 0; id < vocabSize; id++) {
            String token = tokenizer.token(id).orElse(null);
            tokens[id] = token == null ? "[PAD" + id + "]" : token;
            types[id] = (token == null ? GgufVocabulary.Type.UNUSED : GgufVocabulary.Type.NORMAL).ordinal();
        }
        for (JsonNode added : json.path("added_tokens")) {
            boolean control = added.path("special").asBoolean();
            types[added.path("id").asInt()] =
                    (control ? GgufVocabulary.Type.CONTROL : GgufVocabulary.Type.USER_DEFINED).ordinal();
        }
    }

    /**
     * The metadata of a tokenizer.
     *
     * @param vocabSize rows of the model's embedding; ids without a token become unused ones
     * @throws IllegalArgumentException if llama.cpp has no tokenizer of this kind
     */
    static Map<String, Object> metadata(Tokenizer tokenizer, SpecialTokens special, int vocabSize) {
        GgufTokenizerWriter writer = new GgufTokenizerWriter(tokenizer, vocabSize);
        if (writer.json.at("/model/byte_fallback").asBoolean()) {
            writer.sentencePiece(special);
        } else {
            writer.byteLevel();
        }
        writer.put("token_type", Arrays.asList(writer.types));
        writer.special(tokenizer, special);
        return writer.metadata;
    }

    private void put(String key, Object value) {
        metadata.put(PREFIX + key, value);
    }

    private void byteLevel() {
        GgufPreTokenizer pre = GgufPreTokenizer.of(json.path("pre_tokenizer"), json.at("/model/ignore_merges"))
                .orElseThrow(() -> new IllegalArgumentException("the pre_tokenizer of tokenizer.json is none that"
                        + " llama.cpp has a name for; known are " + GgufPreTokenizer.supported()));
        put("model", "gpt2");
        put("pre", pre.ggufName());
        put("tokens", Arrays.asList(tokens));
        List<String> merges = new ArrayList<>();
        merges().forEach(merge -> merges.add(mapSpaces(merge.get(0)) + " " + mapSpaces(merge.get(1))));
        put("merges", merges);
    }

    /** llama.cpp parts a merge at its space; its converter shifts other spaces as byte-level BPE does. */
    private static String mapSpaces(String token) {
        return token.replace(' ', (char) (FIRST_MAPPED_BYTE + ' '));
    }

    private List<List<String>> merges() {
        List<List<String>> merges = new ArrayList<>();
        for (JsonNode merge : json.at("/model/merges")) {
            if (merge.isArray()) {
                merges.add(List.of(merge.path(0).asText(), merge.path(1).asText()));
            } else {
                int space = merge.asText().indexOf(' ');
                merges.add(List.of(
                        merge.asText().substring(0, space), merge.asText().substring(space + 1)));
            }
        }
        return merges;
    }

    /** llama.cpp merges the pair whose token has the highest score; here the one that the earliest merge makes. */
    private void sentencePiece(SpecialTokens special) {
        Map<String, Float> scoreOf = new HashMap<>();
        for (List<String> merge : merges()) {
            scoreOf.putIfAbsent(merge.get(0) + merge.get(1), -(float) scoreOf.size());
        }
        List<Float> scores = new ArrayList<>();
        for (int id = 0; id < tokens.length; id++) {
            if (types[id] == GgufVocabulary.Type.NORMAL.ordinal() && tokens[id].matches("<0x[0-9A-F]{2}>")) {
                types[id] = GgufVocabulary.Type.BYTE.ordinal();
            }
            boolean normal = types[id] == GgufVocabulary.Type.NORMAL.ordinal();
            scores.add(scoreOf.getOrDefault(tokens[id], normal ? NO_SCORE : 0f));
        }
        special.unk().ifPresent(id -> types[id] = GgufVocabulary.Type.UNKNOWN.ordinal());
        put("model", "llama");
        put("pre", "default");
        put("tokens", Arrays.asList(tokens));
        put("scores", scores);
        put("add_space_prefix", addsSpacePrefix());
    }

    private boolean addsSpacePrefix() {
        for (JsonNode step : json.path("normalizer").findParents("prepend")) {
            if (step.path("type").asText().equals("Prepend")) {
                return true;
            }
        }
        JsonNode pre = json.path("pre_tokenizer");
        return pre.path("type").asText().equals("Metaspace")
                && !pre.path("prepend_scheme").asText("always").equals("never");
    }

    private void special(Tokenizer tokenizer, SpecialTokens special) {
        special.bos().ifPresent(id -> put("bos_token_id", id));
        special.eos().ifPresent(id -> put("eos_token_id", id));
        special.unk().ifPresent(id -> put("unknown_token_id", id));
        special.pad().ifPresent(id -> put("padding_token_id", id));
        List<Integer> otherStops = special.stop().stream()
                .filter(id -> special.eos().orElse(-1) != id)
                .sorted()
                .toList();
        if (!otherStops.isEmpty()) {
            put("eot_token_id", otherStops.getFirst());
        }
        if (otherStops.size() > 1) {
            put("eom_token_id", otherStops.get(1));
        }
        int[] added = tokenizer.encodeWithSpecial("");
        boolean bos = added.length > 0 && special.bos().orElse(-1) == added[0];
        boolean eos = added.length > (bos ? 1 : 0) && special.eos().orElse(-1) == added[added.length - 1];
        put("add_bos_token", bos);
        put("add_eos_token", eos);
    }
}
