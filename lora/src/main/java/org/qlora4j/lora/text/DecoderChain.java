package org.qlora4j.lora.text;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/** The decoder section of a tokenizer.json, fed token by token. Not for use by several threads. */
final class DecoderChain {
    private static final String SUPPORTED = "ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Sequence, Strip";

    private final List<DecoderStage> stages = new ArrayList<>();
    private final List<Consumer<String>> inputs = new ArrayList<>();
    private final StringBuilder out = new StringBuilder();
    private boolean fused;

    /**
     * @param decoder the section; a JSON null joins tokens by spaces
     * @throws IllegalArgumentException if it has a decoder or an option that is not supported
     */
    DecoderChain(JsonNode decoder) {
        if (decoder.isNull()) {
            stages.add(new DecoderStage.Join());
        } else {
            add(decoder);
        }
        inputs.add(out::append);
        for (int i = stages.size() - 1; i >= 0; i--) {
            DecoderStage stage = stages.get(i);
            Consumer<String> next = inputs.getFirst();
            inputs.addFirst(token -> stage.accept(token, next));
        }
    }

    /** Adds one token; returns the text that is certain now and was not returned before. */
    String accept(String token) {
        inputs.getFirst().accept(token);
        return take();
    }

    /** Ends the sequence; returns the rest of the text. */
    String finish() {
        for (int i = 0; i < stages.size(); i++) {
            stages.get(i).finish(inputs.get(i + 1));
        }
        return take();
    }

    private String take() {
        String text = out.toString();
        out.setLength(0);
        return text;
    }

    private void add(JsonNode decoder) {
        String type = decoder.path("type").asText();
        switch (type) {
            case "Sequence" -> decoder.path("decoders").forEach(this::add);
            case "ByteLevel" -> {
                stages.add(fused ? new DecoderStage.Whole(new DecoderStage.Bytes()) : new DecoderStage.Bytes());
                fused = true;
            }
            case "ByteFallback" ->
                stages.add(fused ? new DecoderStage.Whole(new DecoderStage.Fallback()) : new DecoderStage.Fallback());
            case "Fuse" -> fused = true;
            case "Metaspace" -> metaspace(decoder);
            case "Replace" -> replace(decoder);
            case "Strip" -> strip(decoder);
            default ->
                throw new IllegalArgumentException("decoder '" + type + "' is not supported; supported: " + SUPPORTED);
        }
    }

    private void metaspace(JsonNode decoder) {
        int mark = codePoint(decoder, "replacement");
        String scheme = decoder.path("prepend_scheme").asText("always");
        stages.add(new DecoderStage.Metaspace(Character.toString(mark), !scheme.equals("never"), fused));
    }

    private void replace(JsonNode decoder) {
        String pattern = decoder.path("pattern").path("String").asText("");
        if (pattern.isEmpty()) {
            throw new IllegalArgumentException(
                    "decoder 'Replace' is supported with a pattern of type String that is not empty, found "
                            + decoder.path("pattern"));
        }
        String content = decoder.path("content").asText("");
        DecoderStage.Each each = token -> token.replace(pattern, content);
        stages.add(fused && pattern.length() > 1 ? new DecoderStage.ReplaceAcross(pattern, content) : each);
    }

    private void strip(JsonNode decoder) {
        int start = decoder.path("start").asInt(-1);
        // the tokenizers library reads past the end of a token that is shorter than stop, which ends the process
        if (start < 0 || !decoder.path("stop").isInt() || decoder.path("stop").asInt() != 0) {
            throw new IllegalArgumentException("decoder 'Strip' is supported with start >= 0 and stop 0, found "
                    + decoder.path("start") + " and " + decoder.path("stop"));
        }
        int content = codePoint(decoder, "content");
        DecoderStage.Each each = token -> DecoderStage.StripStart.strip(token, content, start);
        stages.add(fused ? new DecoderStage.StripStart(content, start) : each);
    }

    private static int codePoint(JsonNode decoder, String field) {
        String text = decoder.path(field).asText("");
        if (text.codePointCount(0, text.length()) != 1) {
            throw new IllegalArgumentException("decoder '"
                    + decoder.path("type").asText() + "': " + field + " must be one character, found '" + text + "'");
        }
        return text.codePointAt(0);
    }
}
