package org.qlora4j.lora.text;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;

/**
 * How a text is cut before byte-level BPE, by the value of {@code tokenizer.ggml.pre}. The patterns are those of the
 * models' own tokenizer.json where the name stands for one, else llama.cpp's.
 *
 * @see <a href="https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp">llama-vocab.cpp</a>
 */
enum GgufPreTokenizer {
    /** GPT-2's pattern alone, which the ByteLevel pre-tokenizer has built in. */
    GPT2(List.of("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion"), List.of(), Option.GPT2_PATTERN),
    /** Digits one by one, then GPT-2's pattern. */
    DIGITS(
            List.of("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
            List.of(),
            Option.DIGITS,
            Option.GPT2_PATTERN),
    /** What llama.cpp does for files without the name, too. */
    DEFAULT(
            List.of("default"),
            List.of(
                    "[\\p{P}\\$\\+<=>\\^~\\|]+",
                    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)",
                    "\\p{N}+",
                    "[0-9][0-9][0-9]")),
    LLAMA3(
            List.of("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
            List.of(Patterns.LLAMA3),
            Option.IGNORE_MERGES,
            Option.ADD_BOS),
    /** Llama 3's pattern with plain merges: Phi-4, OLMo 2. */
    DBRX(List.of("dbrx", "smaug-bpe"), List.of(Patterns.LLAMA3)),
    QWEN2(
            List.of("qwen2", "deepseek-r1-qwen"),
            List.of(
                    Patterns.CONTRACTIONS
                            + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),
            Option.NFC),
    QWEN35(
            List.of("qwen35"),
            List.of(Patterns.CONTRACTIONS
                    + "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*"
                    + "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),
            Option.NFC),
    TEKKEN(List.of("tekken"), List.of(Patterns.cased("", "\\p{N}")), Option.IGNORE_MERGES, Option.ADD_BOS),
    GPT4O(List.of("gpt-4o"), List.of(Patterns.cased(Patterns.CONTRACTIONS + "?", "\\p{N}{1,3}")));

    private final List<String> names;
    private final List<String> patterns;
    private final List<Option> options;

    GgufPreTokenizer(List<String> names, List<String> patterns, Option... options) {
        this.names = names;
        this.patterns = patterns;
        this.options = List.of(options);
    }

    private enum Option {
        GPT2_PATTERN,
        DIGITS,
        NFC,
        IGNORE_MERGES,
        ADD_BOS
    }

    static Optional<GgufPreTokenizer> find(String name) {
        return Arrays.stream(values()).filter(each -> each.names.contains(name)).findFirst();
    }

    /**
     * The pre-tokenizer that a tokenizer.json has.
     *
     * @param section its pre_tokenizer
     * @param ignoreMerges its model's ignore_merges, which tells those with the same pattern apart
     */
    static Optional<GgufPreTokenizer> of(JsonNode section, JsonNode ignoreMerges) {
        List<String> steps = steps(section);
        return Arrays.stream(values())
                .filter(each -> steps(each.toJson()).equals(steps) && each.ignoresMerges() == ignoreMerges.asBoolean())
                .findFirst();
    }

    /** What cuts a text: patterns, digits, GPT-2's built-in pattern; not how offsets are counted. */
    private static List<String> steps(JsonNode section) {
        List<String> steps = new ArrayList<>();
        JsonNode list = section.path("pretokenizers");
        for (JsonNode step : list.isArray() ? list : List.of(section)) {
            String type = step.path("type").asText();
            switch (type) {
                case "Split" ->
                    steps.add(step.path("behavior").asText()
                            + step.path("invert").asBoolean()
                            + step.at("/pattern/Regex").asText());
                case "Digits" -> steps.add(type + step.path("individual_digits").asBoolean());
                case "ByteLevel" ->
                    steps.add(type
                            + step.path("add_prefix_space").asBoolean()
                            + step.path("use_regex").asBoolean(true));
                default -> steps.add(type);
            }
        }
        return steps;
    }

    /** The name that is written. */
    String ggufName() {
        return names.getFirst();
    }

    static String supported() {
        return Arrays.stream(values()).flatMap(each -> each.names.stream()).collect(Collectors.joining(", "));
    }

    /** Whether a piece that is a token as it stands is not merged from its bytes. */
    boolean ignoresMerges() {
        return options.contains(Option.IGNORE_MERGES);
    }

    /** Whether BOS is put before a text when the file does not say. */
    boolean addsBos() {
        return options.contains(Option.ADD_BOS);
    }

    /** Whether the model's own tokenizer composes characters first; llama.cpp does not. */
    boolean normalizesNfc() {
        return options.contains(Option.NFC);
    }

    /** The pre_tokenizer section. */
    ObjectNode toJson() {
        JsonNodeFactory json = JsonNodeFactory.instance;
        ObjectNode sequence = json.objectNode().put("type", "Sequence");
        ArrayNode steps = sequence.putArray("pretokenizers");
        for (String pattern : patterns) {
            ObjectNode split = steps.addObject().put("type", "Split");
            split.putObject("pattern").put("Regex", pattern);
            split.put("behavior", "Isolated").put("invert", false);
        }
        if (options.contains(Option.DIGITS)) {
            steps.addObject().put("type", "Digits").put("individual_digits", true);
        }
        steps.addObject()
                .put("type", "ByteLevel")
                .put("add_prefix_space", false)
                .put("trim_offsets", false)
                .put("use_regex", options.contains(Option.GPT2_PATTERN));
        return sequence;
    }

    private static final class Patterns {
        static final String CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
        static final String LLAMA3 = CONTRACTIONS
                + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

        /** Words end where lower case turns to upper; {@code suffix} may follow a word. */
        static String cased(String suffix, String digits) {
            String upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
            String lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
            String before = "[^\\r\\n\\p{L}\\p{N}]?";
            return before + upper + "*" + lower + "+" + suffix + "|" + before + upper + "+" + lower + "*" + suffix + "|"
                    + digits + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
        }
    }
}
