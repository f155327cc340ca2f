package org.qlora4j.lora.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.Message;

/**
 * Understands a row, by the names of its columns as ms-swift does: {@code input_ids} with {@code labels};
 * {@code messages} or {@code conversations}; alpaca's {@code instruction}, {@code input}, {@code output}; a question
 * and an answer under one of many names, with {@code history} and {@code system}; or {@code text} alone.
 */
final class RowParser {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final List<String> CONVERSATION = List.of("messages", "conversations", "conversation");
    private static final List<String> QUERY = List.of("query", "prompt", "input", "instruction", "question", "problem");
    private static final List<String> RESPONSE = List.of(
            "response",
            "answer",
            "output",
            "targets",
            "target",
            "answer_key",
            "answers",
            "solution",
            "completion",
            "text",
            "content");
    private static final List<String> SYSTEM = List.of("system", "system_prompt");
    private static final List<String> OTHER = List.of("input_ids", "labels", "history", "tools", "tag");

    private final Map<String, String> columns;
    private final @Nullable Names modelName;
    private final @Nullable Names modelAuthor;

    /**
     * A parser.
     *
     * @param columns other names of columns, each with the name it stands for
     * @param modelName what {{NAME}} stands for; null to refuse rows with it
     * @param modelAuthor what {{AUTHOR}} stands for, likewise
     * @throws IllegalArgumentException if a column is to be read as one that has no meaning
     */
    RowParser(Map<String, String> columns, @Nullable Names modelName, @Nullable Names modelAuthor) {
        TreeSet<String> known = new TreeSet<>(OTHER);
        List.of(CONVERSATION, QUERY, RESPONSE, SYSTEM).forEach(known::addAll);
        columns.forEach((from, to) -> {
            if (!known.contains(to)) {
                throw new IllegalArgumentException("columns: '" + from + "' cannot be read as '" + to
                        + "', which has no meaning; there are: " + String.join(", ", known));
            }
        });
        this.columns = Map.copyOf(columns);
        this.modelName = modelName;
        this.modelAuthor = modelAuthor;
    }

    /**
     * Understands a row.
     *
     * @throws IllegalArgumentException if it cannot be used; says why
     */
    Example parse(byte[] json) {
        ObjectNode row = object(json);
        columns.forEach((from, to) -> {
            if (row.has(from)) {
                row.set(to, row.remove(from));
            }
        });
        if (present(row, "input_ids")) {
            return new Example.Tokens(new Batch.Row(integers(row, "input_ids"), integers(row, "labels")));
        }
        String tag = row.path("tag").asText("en");
        for (String key : CONVERSATION) {
            if (present(row, key)) {
                return conversation(row, tag, TurnParser.turns(list(row, key)));
            }
        }
        if (row.path("prompt").isArray()) {
            List<Example.Turn> turns = new ArrayList<>();
            TurnParser.turns(row.path("prompt")).forEach(t -> turns.add(new Example.Turn(t.message(), false)));
            turns.addAll(TurnParser.turns(list(row, "completion")));
            return conversation(row, tag, turns);
        }
        return answer(row, tag);
    }

    /** What decides about an example besides the row. */
    String settings() {
        return new TreeMap<>(columns) + " " + modelName + " " + modelAuthor;
    }

    private static ObjectNode object(byte[] json) {
        try {
            JsonNode row = JSON.readTree(json);
            if (row instanceof ObjectNode object) {
                return object;
            }
            throw new IllegalArgumentException("expected a JSON object, found " + shown(row));
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException("is not JSON: " + e.getOriginalMessage(), e);
        } catch (IOException e) {
            throw new IllegalArgumentException("is not JSON in UTF-8: " + e.getMessage(), e);
        }
    }

    private Example answer(ObjectNode row, String tag) {
        String responseKey = firstOf(row, RESPONSE);
        boolean alpaca = present(row, "instruction");
        String queryKey = alpaca ? "instruction" : firstOf(row, QUERY);
        if (queryKey == null && "text".equals(responseKey)) {
            return new Example.Text(text(row, "text"));
        }
        if (queryKey == null || responseKey == null) {
            throw new IllegalArgumentException("has no " + (queryKey == null ? "question" : "answer")
                    + "; expected messages, query and response, instruction and output, prompt and completion, text, or"
                    + " input_ids and labels, found " + String.join(", ", names(row))
                    + "; other names can be given by columns");
        }
        String query = text(row, queryKey);
        String input = alpaca && present(row, "input") ? row.path("input").asText() : "";
        List<Example.Turn> turns = new ArrayList<>();
        if (present(row, "history")) {
            for (JsonNode turn : list(row, "history")) {
                if (!turn.path(0).isTextual() || !turn.path(1).isTextual()) {
                    throw new IllegalArgumentException(
                            "'history' must be a list of pairs of texts, found " + shown(turn));
                }
                turns.add(new Example.Turn(Message.user(turn.path(0).textValue()), null));
                turns.add(new Example.Turn(Message.assistant(turn.path(1).textValue()), null));
            }
        }
        turns.add(new Example.Turn(Message.user(input.isEmpty() ? query : query + "\n" + input), null));
        turns.add(new Example.Turn(Message.assistant(text(row, responseKey)), null));
        return conversation(row, tag, turns);
    }

    private Example conversation(ObjectNode row, String tag, List<Example.Turn> turns) {
        List<Example.Turn> all = new ArrayList<>();
        String system = firstOf(row, SYSTEM);
        if (system != null
                && (turns.isEmpty() || !turns.getFirst().message().role().equals("system"))) {
            all.add(new Example.Turn(Message.system(text(row, system)), null));
        }
        for (Example.Turn turn : turns) {
            all.add(new Example.Turn(filled(turn.message(), tag), turn.loss()));
        }
        if (all.stream().noneMatch(Example.Turn::isAssistant)) {
            throw new IllegalArgumentException("has no message of an assistant to learn from");
        }
        Map<String, Object> extra = new HashMap<>();
        if (present(row, "tools")) {
            extra.put("tools", JSON.convertValue(list(row, "tools"), Object.class));
        }
        return new Example.Conversation(all, extra);
    }

    private Message filled(Message message, String tag) {
        String content = message.content();
        return content == null
                ? message
                : new Message(
                        message.role(),
                        fill(
                                fill(content, "{{NAME}}", modelName, "model_name", tag),
                                "{{AUTHOR}}",
                                modelAuthor,
                                "model_author",
                                tag),
                        message.extra());
    }

    private static String fill(String value, String placeholder, @Nullable Names names, String option, String tag) {
        if (!value.contains(placeholder)) {
            return value;
        }
        if (names == null) {
            throw new IllegalArgumentException("contains " + placeholder + "; set " + option);
        }
        return value.replace(placeholder, names.in(tag));
    }

    /** A list, which CSV and some data sets write as JSON in a text. */
    private static JsonNode list(ObjectNode row, String key) {
        JsonNode value = row.path(key);
        if (value.isTextual()) {
            try {
                value = JSON.readTree(value.textValue());
            } catch (JsonProcessingException e) {
                throw new IllegalArgumentException(
                        "'" + key + "' must be a list, found a text that is no JSON: " + e.getOriginalMessage(), e);
            }
        }
        if (!value.isArray()) {
            throw new IllegalArgumentException(
                    "'" + key + "' must be a list" + (row.has(key) ? ", found " + shown(value) : "; it is missing"));
        }
        return value;
    }

    private static String text(ObjectNode row, String key) {
        JsonNode value = row.path(key);
        if (!value.isValueNode() || value.asText().isEmpty()) {
            throw new IllegalArgumentException("'" + key + "' must be a text that is not empty, found " + shown(value));
        }
        return value.asText();
    }

    /** The first key with a value. */
    private static @Nullable String firstOf(ObjectNode row, List<String> keys) {
        for (String key : keys) {
            if (present(row, key)) {
                return key;
            }
        }
        return null;
    }

    private static boolean present(ObjectNode row, String key) {
        JsonNode value = row.path(key);
        return !value.isMissingNode()
                && !value.isNull()
                && !(value.isTextual() && value.textValue().isEmpty());
    }

    private static List<String> names(ObjectNode row) {
        List<String> names = new ArrayList<>();
        row.fieldNames().forEachRemaining(names::add);
        return names.isEmpty() ? List.of("no column") : names.subList(0, Math.min(20, names.size()));
    }

    static String shown(JsonNode node) {
        String text = node.toString();
        return text.length() <= 80 ? text : text.substring(0, 77) + "...";
    }

    private static int[] integers(ObjectNode row, String key) {
        JsonNode array = list(row, key);
        int[] values = new int[array.size()];
        for (int i = 0; i < values.length; i++) {
            if (!array.get(i).canConvertToInt() || !array.get(i).isIntegralNumber()) {
                throw new IllegalArgumentException(
                        "'" + key + "' must be a list of integers, found " + shown(array.get(i)));
            }
            values[i] = array.get(i).intValue();
        }
        return values;
    }
}
