package org.qlora4j.lora.text;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import java.util.TreeSet;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;

/**
 * The tokenizer of a GGUF file as Hugging Face files: tokenizer.json and tokenizer_config.json. Known are the models
 * {@code gpt2} (byte-level BPE) and {@code llama} (SentencePiece BPE with scores).
 *
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer">the metadata</a>
 */
public final class GgufTokenizer {
    /** The metadata that names the kind of tokenizer. */
    static final String MODEL = "tokenizer.ggml.model";

    /** llama.cpp's kind for models without. */
    static final String NONE = "no_vocab";

    private static final String SPACE_MARK = "▁";
    /** {@code <0x00>} is the first of 256 byte tokens. */
    private static final String FIRST_BYTE = "<0x00>";

    private final GgufMetadata metadata;
    private final GgufVocabulary vocabulary;
    private final SpecialTokens special;
    private final boolean sentencePiece;
    private final Optional<GgufPreTokenizer> preTokenizer;

    private GgufTokenizer(GgufMetadata metadata) {
        this.metadata = metadata;
        String model = metadata.text(MODEL)
                .orElseThrow(() -> metadata.error("has no metadata 'tokenizer.ggml.model': it carries no tokenizer"));
        if (!model.equals("gpt2") && !model.equals("llama")) {
            throw metadata.error("tokenizer.ggml.model '" + TokenTable.shorten(model)
                    + "' is not supported; supported: gpt2 (byte-level BPE), llama (SentencePiece BPE)");
        }
        sentencePiece = model.equals("llama");
        vocabulary = new GgufVocabulary(metadata);
        special = special(vocabulary);
        preTokenizer = sentencePiece ? Optional.empty() : Optional.of(preTokenizer(metadata));
    }

    /**
     * The tokenizer of an open GGUF file.
     *
     * @throws ModelFormatException if it has none, or it is damaged or of a kind that is not supported
     */
    public static GgufTokenizer of(Gguf gguf) {
        return of(gguf.location(), gguf.metadata());
    }

    /**
     * The tokenizer in the metadata of a GGUF file.
     *
     * @param file named in error messages
     * @param metadata as {@link Gguf#metadata()} gives it
     * @throws ModelFormatException if it has none, or it is damaged or of a kind that is not supported
     */
    public static GgufTokenizer of(Path file, Map<String, Object> metadata) {
        return new GgufTokenizer(new GgufMetadata(file, metadata));
    }

    /** The text of a tokenizer.json. */
    public String tokenizerJson() {
        JsonNodeFactory json = JsonNodeFactory.instance;
        ObjectNode root =
                json.objectNode().put("version", "1.0").putNull("truncation").putNull("padding");
        root.set("added_tokens", addedTokens());
        if (sentencePiece) {
            sentencePiece(root);
        } else {
            byteLevel(root, preTokenizer.orElseThrow());
        }
        template(root);
        root.set("model", model());
        try {
            return new JsonMapper().writeValueAsString(root);
        } catch (JsonProcessingException e) {
            throw new IllegalStateException("a tree of JSON nodes is always JSON", e);
        }
    }

    /** The content of a tokenizer_config.json: special tokens, the chat template, the context length. */
    public ObjectNode tokenizerConfig() {
        ObjectNode config = JsonNodeFactory.instance.objectNode();
        config.put("tokenizer_class", "PreTrainedTokenizerFast");
        config.put("add_bos_token", addsBos());
        config.put("add_eos_token", addsEos());
        config.put("clean_up_tokenization_spaces", false);
        special.bos().ifPresent(id -> config.put("bos_token", vocabulary.token(id)));
        special.eos().ifPresent(id -> config.put("eos_token", vocabulary.token(id)));
        special.pad().ifPresent(id -> config.put("pad_token", vocabulary.token(id)));
        special.unk().ifPresent(id -> config.put("unk_token", vocabulary.token(id)));
        metadata.text("general.architecture")
                .flatMap(architecture -> metadata.integer(architecture + ".context_length"))
                .ifPresent(length -> config.put("model_max_length", length));
        metadata.text("tokenizer.chat_template").ifPresent(template -> config.put("chat_template", template));
        return config;
    }

    /**
     * Ids of the special tokens; generation stops at EOS and, where the file names one, at the end of a turn or
     * message.
     */
    public SpecialTokens specialTokens() {
        return special;
    }

    private static SpecialTokens special(GgufVocabulary vocabulary) {
        OptionalInt eos = vocabulary.special("tokenizer.ggml.eos_token_id");
        Set<Integer> stop = new TreeSet<>();
        eos.ifPresent(stop::add);
        vocabulary.special("tokenizer.ggml.eot_token_id").ifPresent(stop::add);
        vocabulary.special("tokenizer.ggml.eom_token_id").ifPresent(stop::add);
        return new SpecialTokens(
                vocabulary.special("tokenizer.ggml.bos_token_id"),
                eos,
                vocabulary.special("tokenizer.ggml.padding_token_id"),
                vocabulary.special("tokenizer.ggml.unknown_token_id"),
                stop);
    }

    private static GgufPreTokenizer preTokenizer(GgufMetadata metadata) {
        String name = metadata.text("tokenizer.ggml.pre").orElse("default");
        return GgufPreTokenizer.find(name)
                .orElseThrow(() -> metadata.error("tokenizer.ggml.pre '" + TokenTable.shorten(name)
                        + "' is not supported; supported: " + GgufPreTokenizer.supported()));
    }

    private ArrayNode addedTokens() {
        ArrayNode added = JsonNodeFactory.instance.arrayNode();
        for (int id = 0; id < vocabulary.size(); id++) {
            GgufVocabulary.Type type = vocabulary.type(id);
            String token = vocabulary.token(id);
            boolean control = type == GgufVocabulary.Type.CONTROL || type == GgufVocabulary.Type.UNKNOWN;
            if (token.isEmpty() || !control && type != GgufVocabulary.Type.USER_DEFINED) {
                continue;
            }
            added.addObject()
                    .put("id", id)
                    .put("content", token)
                    .put("single_word", false)
                    .put("lstrip", false)
                    .put("rstrip", false)
                    // a user-defined piece written with marks must match where spaces have become marks
                    .put("normalized", sentencePiece && !addsSpacePrefix() && !control && token.contains(SPACE_MARK))
                    .put("special", control);
        }
        return added;
    }

    private void byteLevel(ObjectNode root, GgufPreTokenizer pre) {
        if (pre.normalizesNfc()) {
            root.putObject("normalizer").put("type", "NFC");
        } else {
            root.putNull("normalizer");
        }
        root.set("pre_tokenizer", pre.toJson());
        root.putObject("decoder")
                .put("type", "ByteLevel")
                .put("add_prefix_space", true)
                .put("trim_offsets", true)
                .put("use_regex", true);
    }

    private void sentencePiece(ObjectNode root) {
        boolean prefix = addsSpacePrefix();
        ObjectNode normalizer = root.putObject("normalizer").put("type", "Sequence");
        ArrayNode normalizers = normalizer.putArray("normalizers");
        if (prefix) {
            normalizers.addObject().put("type", "Prepend").put("prepend", SPACE_MARK);
        }
        replace(normalizers.addObject(), " ", SPACE_MARK);
        root.putNull("pre_tokenizer");
        ArrayNode decoders = root.putObject("decoder").put("type", "Sequence").putArray("decoders");
        replace(decoders.addObject(), SPACE_MARK, " ");
        decoders.addObject().put("type", "ByteFallback");
        decoders.addObject().put("type", "Fuse");
        if (prefix) {
            decoders.addObject()
                    .put("type", "Strip")
                    .put("content", " ")
                    .put("start", 1)
                    .put("stop", 0);
        }
    }

    private static void replace(ObjectNode step, String pattern, String content) {
        step.put("type", "Replace").putObject("pattern").put("String", pattern);
        step.put("content", content);
    }

    /** The post-processor: BOS before and EOS after a text, if the file wants them. */
    private void template(ObjectNode root) {
        if (!addsBos() && !addsEos()) {
            root.putNull("post_processor");
            return;
        }
        ObjectNode template = root.putObject("post_processor").put("type", "TemplateProcessing");
        ArrayNode single = template.putArray("single");
        ArrayNode pair = template.putArray("pair");
        ObjectNode declared = JsonNodeFactory.instance.objectNode();
        sequence(single, "A", 0, declared);
        sequence(pair, "A", 0, declared);
        sequence(pair, "B", 1, declared);
        template.set("special_tokens", declared);
    }

    private void sequence(ArrayNode pieces, String sequence, int typeId, ObjectNode declared) {
        if (addsBos()) {
            special(pieces, required("tokenizer.ggml.bos_token_id", "add_bos_token"), typeId, declared);
        }
        pieces.addObject().putObject("Sequence").put("id", sequence).put("type_id", typeId);
        if (addsEos()) {
            special(pieces, required("tokenizer.ggml.eos_token_id", "add_eos_token"), typeId, declared);
        }
    }

    private void special(ArrayNode pieces, int id, int typeId, ObjectNode declared) {
        String token = vocabulary.token(id);
        pieces.addObject().putObject("SpecialToken").put("id", token).put("type_id", typeId);
        ObjectNode entry = declared.putObject(token).put("id", token);
        entry.putArray("ids").add(id);
        entry.putArray("tokens").add(token);
    }

    private int required(String key, String because) {
        return vocabulary
                .special(key)
                .orElseThrow(() -> metadata.error("'" + because + "' is on, but there is no metadata '" + key + "'"));
    }

    private boolean addsBos() {
        // llama.cpp's defaults: always for SentencePiece, by the pre-tokenizer for byte-level BPE
        boolean usual = preTokenizer
                .map(GgufPreTokenizer::addsBos)
                .orElseGet(() -> metadata.has("tokenizer.ggml.bos_token_id"));
        return metadata.bool("tokenizer.ggml.add_bos_token").orElse(usual);
    }

    private boolean addsSpacePrefix() {
        return metadata.bool("tokenizer.ggml.add_space_prefix").orElse(true);
    }

    private boolean addsEos() {
        return metadata.bool("tokenizer.ggml.add_eos_token").orElse(false);
    }

    private ObjectNode model() {
        ObjectNode model =
                JsonNodeFactory.instance.objectNode().put("type", "BPE").putNull("dropout");
        OptionalInt unknown = sentencePiece
                ? vocabulary.special("tokenizer.ggml.unknown_token_id")
                : OptionalInt.empty(); // byte-level BPE has a token for every byte
        if (unknown.isPresent()) {
            model.put("unk_token", vocabulary.token(unknown.getAsInt()));
        } else {
            model.putNull("unk_token");
        }
        model.putNull("continuing_subword_prefix").putNull("end_of_word_suffix");
        model.put("fuse_unk", sentencePiece);
        model.put("byte_fallback", sentencePiece && vocabulary.has(FIRST_BYTE));
        model.put(
                "ignore_merges",
                preTokenizer.map(GgufPreTokenizer::ignoresMerges).orElse(false));
        ObjectNode entries = model.putObject("vocab");
        for (int id = 0; id < vocabulary.size(); id++) {
            entries.put(vocabulary.token(id), id);
        }
        ArrayNode merges = model.putArray("merges");
        for (List<String> merge : sentencePiece ? mergesFromScores() : writtenMerges()) {
            merges.addArray().add(merge.get(0)).add(merge.get(1));
        }
        return model;
    }

    private List<List<String>> mergesFromScores() {
        List<Double> scores = metadata.array("tokenizer.ggml.scores", Double.class);
        if (scores.size() != vocabulary.size()) {
            throw metadata.error("has " + vocabulary.size() + " tokens but " + scores.size() + " scores");
        }
        return SentencePieceMerges.of(vocabulary, scores);
    }

    private List<List<String>> writtenMerges() {
        return metadata.array("tokenizer.ggml.merges", String.class).stream()
                .map(this::merge)
                .toList();
    }

    private List<String> merge(String merge) {
        int space = merge.indexOf(' ');
        boolean pair = space > 0 && space == merge.lastIndexOf(' ') && space < merge.length() - 1;
        if (!pair
                || !vocabulary.has(merge.substring(0, space))
                || !vocabulary.has(merge.substring(space + 1))
                || !vocabulary.has(merge.substring(0, space) + merge.substring(space + 1))) {
            throw metadata.error("merge '" + TokenTable.shorten(merge)
                    + "' is not two tokens with one space between them, whose concatenation is a token");
        }
        return List.of(merge.substring(0, space), merge.substring(space + 1));
    }
}
