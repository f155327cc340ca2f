package org.qlora4j.lora.text;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.Objects;
import java.util.regex.Pattern;
import org.qlora4j.lora.model.NamePattern;

/**
 * Checks the sections of a tokenizer.json on which the native library would end the process instead of reporting an
 * error.
 */
final class TokenizerSections {
    private static final Pattern LOOK_AROUND = Pattern.compile("\\(\\?<?[=!]");

    private TokenizerSections() {}

    /**
     * Refuses {@code Precompiled}, whose binary table is used unchecked (no decoder-only model with BPE has one), and a
     * {@code Replace} of nothing: at the end of a text there is no character that it could stand for.
     */
    static void checkNormalizer(JsonNode normalizer) {
        if (normalizer.path("type").asText().equals("Precompiled")) {
            throw new IllegalArgumentException("normalizer 'Precompiled' is not supported");
        }
        JsonNode pattern = normalizer.path("pattern");
        if (pattern.path("String").asText("x").isEmpty()
                || pattern.has("Regex") && matchesNothing(pattern.path("Regex").asText())) {
            throw new IllegalArgumentException("normalizer 'Replace' must replace some text; its pattern "
                    + TokenTable.shorten(pattern.toString()) + " is also found where there is none");
        }
        normalizer.path("normalizers").forEach(TokenizerSections::checkNormalizer);
    }

    /**
     * Whether an expression may be found without a character, taking what it says about the text around for true.
     *
     * @throws IllegalArgumentException if Java does not read it as an expression
     */
    private static boolean matchesNothing(String expression) {
        StringBuilder alone = new StringBuilder();
        for (int i = 0; i < expression.length(); i++) {
            char c = expression.charAt(i);
            if (c != '\\' || i + 1 == expression.length()) {
                alone.append(c);
            } else if ("bBG".indexOf(expression.charAt(++i)) < 0) {
                alone.append(c).append(expression.charAt(i));
            }
        }
        return NamePattern.of(LOOK_AROUND.matcher(alone).replaceAll("(?:|")).matches("");
    }

    /**
     * Allows {@code ByteLevel}, {@code TemplateProcessing} and {@code Sequence}; all tokens of a template must be
     * declared and exist.
     */
    static void checkPostProcessor(JsonNode processor, TokenTable tokens) {
        if (processor.isNull()) {
            return;
        }
        String type = processor.path("type").asText();
        switch (type) {
            case "ByteLevel" -> {}
            case "Sequence" -> processor.path("processors").forEach(each -> checkPostProcessor(each, tokens));
            case "TemplateProcessing" -> checkTemplate(processor, tokens);
            default ->
                throw new IllegalArgumentException("post_processor '" + type
                        + "' is not supported; supported: ByteLevel, TemplateProcessing, Sequence");
        }
    }

    private static void checkTemplate(JsonNode template, TokenTable tokens) {
        JsonNode declared = template.path("special_tokens");
        declared.properties().forEach(entry -> checkDeclared(entry.getKey(), entry.getValue(), tokens));
        checkPieces(template.path("single"), "A", declared);
        checkPieces(template.path("pair"), "A or B", declared);
    }

    private static void checkDeclared(String name, JsonNode token, TokenTable tokens) {
        JsonNode ids = token.path("ids");
        boolean valid = ids.isArray()
                && ids.size() == token.path("tokens").size()
                && name.equals(token.path("id").asText());
        for (int i = 0; valid && i < ids.size(); i++) {
            String text = token.path("tokens").path(i).asText();
            valid = ids.path(i).isInt()
                    && Objects.equals(tokens.id(text), ids.path(i).asInt());
        }
        if (!valid) {
            throw new IllegalArgumentException("post_processor: special token '" + TokenTable.shorten(name)
                    + "' is not a token of the vocabulary with its id: " + TokenTable.shorten(token.toString()));
        }
    }

    private static void checkPieces(JsonNode pieces, String sequences, JsonNode declared) {
        if (!pieces.isArray()) {
            throw new IllegalArgumentException(
                    "post_processor: a template must be an array, found " + TokenTable.shorten(pieces.toString()));
        }
        for (JsonNode piece : pieces) {
            JsonNode special = piece.path("SpecialToken");
            String sequence = piece.path("Sequence").path("id").asText();
            boolean valid = special.isObject()
                    ? declared.has(special.path("id").asText())
                    : !sequence.isEmpty() && sequences.contains(sequence);
            if (!valid) {
                throw new IllegalArgumentException(
                        "post_processor: a template may hold declared special tokens and sequence " + sequences
                                + ", found " + TokenTable.shorten(piece.toString()));
            }
        }
    }
}
